"""Blocks of a sequence model by torch.compile."""

import pytest

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from tests.training.test_train import small_config
from training.assembly import compile_blocks, make_module
from training.run_folder import load_trained_model
from training.train import run


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("ignore")  # torch warns of its own parts while it traces
def test_a_compiled_run_learns_the_same_and_is_read_like_any_other(markov_dataset, tmp_path):
    settings = ("model.dropout_rate=0", "trainer=cpu", "max_epochs=1")
    eager = run(small_config(markov_dataset, tmp_path, "name=eager", *settings))
    compiled = run(small_config(markov_dataset, tmp_path, "name=compiled", *settings, "compile=default"))
    assert compiled.metrics["train_loss_epoch"] == pytest.approx(eager.metrics["train_loss_epoch"], rel=1e-4)
    names = load_trained_model(eager.folder).model.state_dict().keys()
    assert load_trained_model(compiled.folder).model.state_dict().keys() == names


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`")  # inside torch, which compiling imports
@pytest.mark.parametrize(("average_epochs", "evaluated_is_compiled"), [(0, True), (1, False)])
def test_the_average_is_evaluated_as_it_is(markov_dataset, tmp_path, average_epochs, evaluated_is_compiled):
    config = small_config(markov_dataset, tmp_path, f"average_epochs={average_epochs}")
    module = make_module(config, ProcessedDataset.open(markov_dataset).spec)
    compile_blocks(module.model, mode="default")
    compiled = [block._compiled_call_impl is not None for block in module.evaluated.user_encoder.blocks]
    assert compiled
    assert set(compiled) == {evaluated_is_compiled}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("compile=fast",), "compile is 'fast': choose one of default, reduce-overhead"),
        (("model=two_tower", "compile=default"), "compile is 'default', but a TwoTower has no blocks"),
    ],
)
def test_what_cannot_be_compiled_is_named(markov_dataset, tmp_path, settings, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        run(small_config(markov_dataset, tmp_path, *settings))
