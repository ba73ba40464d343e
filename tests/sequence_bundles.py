"""A bundle whose user encoder is a small sequence model with random weights, whole and incremental."""

from dataclasses import replace
from pathlib import Path

import torch

from roomrec.bundle.manifest import INCREMENTAL_USER_ENCODER_FILE, USER_ENCODER_FILE, Manifest, hash_files
from roomrec.export.incremental import can_be_incremental, export_incremental_user_encoder
from roomrec.export.onnx import export_user_encoder
from roomrec.features.vocabulary import Vocabulary
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.models.sasrec import SASRec
from tests.blocks import BLOCKS
from tests.bundles import write_tiny_bundle


def write_sequence_bundle(
    path: Path,
    vocabulary: Vocabulary,
    *,
    block: str = "pre_norm",
    embedding_dim: int = 8,
    max_sequence_length: int = 10,
) -> Path:
    """Write a bundle as training does; the item encoder is that of ``write_tiny_bundle``.

    Args:
        path: Folder to write; must not exist.
        vocabulary: Ids the encoders know.
        block: A key of ``BLOCKS``.
        embedding_dim: D.
        max_sequence_length: L.
    """
    write_tiny_bundle(path, vocabulary, embedding_dim=embedding_dim, max_sequence_length=max_sequence_length)
    manifest = Manifest.read(path)
    torch.manual_seed(1)
    model = SASRec(
        spec=manifest.feature_spec,
        embedding_dim=embedding_dim,
        max_sequence_length=max_sequence_length,
        num_blocks=2,
        block=BLOCKS[block],
        dropout_rate=0.0,
        id_dropout_rate=0.0,
    )
    for weight in model.parameters():  # tables begin small, so that mistakes would be small, too
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    encoder = with_looked_up_products(model.user_encoder)
    export_user_encoder(encoder, path / USER_ENCODER_FILE, max_sequence_length=max_sequence_length)
    if can_be_incremental(encoder):
        export_incremental_user_encoder(encoder, path / INCREMENTAL_USER_ENCODER_FILE)
    replace(manifest, files=hash_files(path)).write(path)
    return path
