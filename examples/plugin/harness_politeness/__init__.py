"""Polite decoding: a strategy (`conf/decoding/polite.yaml`), a metric and a logits processor."""
