"""A step of decoding, for backends that see logits: what is chosen and recorded, and the finished sample."""
