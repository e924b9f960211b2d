"""Models: locate, load, quantize and describe a model, and estimate the memory it needs.

`locate`, `weights`, `tokenizer` and `memory` stay light (no torch), so that a sweep can be planned without
loading anything; `load` and `quantize` import torch, transformers and bitsandbytes when called.
"""
