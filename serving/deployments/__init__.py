"""What answers a request: plain objects, and the thin Ray shell around them."""
