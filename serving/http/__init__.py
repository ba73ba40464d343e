"""HTTP/1.1 without a proxy: every replica answers on one port of its machine."""
