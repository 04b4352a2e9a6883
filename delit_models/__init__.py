"""Pure PyTorch: the Wan VAE, the heads, light, image files and the pipeline. Never imports ComfyUI."""
