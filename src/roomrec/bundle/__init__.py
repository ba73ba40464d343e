"""What training hands to serving: manifest, reader, registry."""
