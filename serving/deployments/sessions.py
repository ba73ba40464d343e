"""ONNX Runtime sessions as a replica runs them: one thread, no spinning, the GPU where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnxruntime

from roomrec.errors import BundleError

PROVIDERS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    # The arena grows by what is asked for, not to the next power of two; products keep all bits of float32.
    ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}),
    ("CPUExecutionProvider", {}),
)
"""Where graphs may run, best first, with options."""


def open_session(path: Path, *, is_known: Callable[[str], bool]) -> onnxruntime.InferenceSession:
    """Open a graph for one thread.

    Args:
        path: An ONNX file.
        is_known: Whether this code can feed an input of that name.

    Raises:
        BundleError: If it cannot be loaded, or asks for an input that nobody can feed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    providers = [provider for provider in PROVIDERS if provider[0] in available]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BundleError(f"{path} cannot be loaded: {error}") from error
    if unknown := [each.name for each in session.get_inputs() if not is_known(each.name)]:
        raise BundleError(f"{path} asks for inputs {unknown}, which this version does not know")
    return session
