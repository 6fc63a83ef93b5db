"""The configurations of `examples/training`, read as `accelerate launch` reads them; nothing is launched here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from safevlm_training.vlm.tiny import tiny_vlm

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "training"
KINDS = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed-zero2": DistributedType.DEEPSPEED,
    "deepspeed-zero3": DistributedType.DEEPSPEED,
}
RECIPES = ("paper-llava-1.5-7b", "paper-llava-1.5-7b-stage-2")


def launched(name):
    """The arguments that `accelerate launch` would go on with; an unknown key of the file is an error here."""
    options = ["--config_file", str(FOLDER / f"{name}.yaml"), "--main_process_port", "0"]
    parsed = launch_command_parser().parse_args([*options, "-m", "safevlm_sdk.command", "train", "recipe.toml"])
    arguments, config, _ = _validate_launch_command(parsed)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
    return arguments


def test_every_file_is_tested():
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_eight_processes_in_bfloat16(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes) == (KINDS[name], 8)
    assert (config.mixed_precision, config.use_cpu, config.num_machines) == ("bf16", False, 1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_papers_batch_is_shared_out_among_eight(recipe):
    read = msgspec.toml.decode((ROOT / "recipes" / f"{recipe}.toml").read_bytes())
    assert read["train"]["batch_size"] % (8 * read["lm"]["gradient_accumulation"]) == 0
    assert read["lm"]["dtype"] == "bfloat16"


def test_fsdp_shards_the_layers_of_the_language_model(monkeypatch):
    environment = prepare_multi_gpu_env(launched("fsdp2"))
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert not plugin.cpu_ram_efficient_loading
    model, _ = tiny_vlm("llava")
    plugin.set_auto_wrap_policy(model)
    assert [kind.__name__ for kind in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]] == [
        "LlamaDecoderLayer"
    ]


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_shards_as_its_stage_says(monkeypatch, stage):
    _, environment = prepare_deepspeed_cmd_env(launched(f"deepspeed-zero{stage}"))
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    found = DeepSpeedPlugin().deepspeed_config
    assert found["zero_optimization"]["stage"] == stage
    assert found["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is (stage == 3)
    assert (found["gradient_accumulation_steps"], found["gradient_clipping"]) == ("auto", "auto")
