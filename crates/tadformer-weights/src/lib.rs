//! Weight files in: safetensors and PyTorch pickles, the published names of Swin, and the Hugging Face Hub's cache.
