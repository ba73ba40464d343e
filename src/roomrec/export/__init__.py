"""Trained encoders to bundles: trace, compare, write."""

from roomrec.export.bundle_writer import write_bundle
from roomrec.export.onnx import export_item_encoder, export_user_encoder, measure_parity

__all__ = ["export_item_encoder", "export_user_encoder", "measure_parity", "write_bundle"]
