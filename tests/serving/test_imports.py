"""What a replica loads: small enough to start fast, and nothing that training needs."""

import subprocess
import sys


def test_nothing_of_training_is_loaded() -> None:
    code = (
        "import sys, serving.__main__, serving.app, serving.deployments.replica; "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('torch', 'torchrec', 'lightning', 'pytorch_lightning', 'hydra', 'onnx', 'daft', 'training')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
