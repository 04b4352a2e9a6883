"""The ComfyUI nodes, thin over delit_models. The only part of Delit that imports ComfyUI."""
