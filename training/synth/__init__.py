"""The synthetic light stage: people, materials, lights and the renderer behind generate_toy_dataset."""
