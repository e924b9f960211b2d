"""Models: find one, load it, quantize it, say what it is and what it costs.

`locate`, `weights`, `tokenizer` and `memory` stay light (no torch), so that a sweep can be planned without
loading anything; `load`, `quantize` and `doctor` import torch, transformers and bitsandbytes when called.
"""
