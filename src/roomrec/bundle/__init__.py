"""What training hands to serving: manifest, reader, registry."""

from roomrec.bundle.channels import InUse
from roomrec.bundle.manifest import Manifest
from roomrec.bundle.reader import Bundle, verify_bundle
from roomrec.bundle.registry import Registry

__all__ = ["Bundle", "InUse", "Manifest", "Registry", "verify_bundle"]
