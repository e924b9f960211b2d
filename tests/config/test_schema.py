"""One schema: Hydra has the keys and defaults of the pydantic models."""

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from harness.config import schema
from harness.config.groups import ConfigGroups
from harness.config.point import Point
from harness.config.search_path import conf_folder, first_comment


def test_hydras_schema_has_the_keys_and_defaults_of_the_point():
    schema.register()
    node = OmegaConf.to_container(ConfigStore.instance().load("schema.yaml").node)
    assert set(node) == set(Point.model_fields) - {"label", "notes", "sweep_name"} | {
        "cases",
        "expect",
        "name",
    }
    assert node["name"] is None
    assert node["cases"] == node["expect"] == []
    for section, model in schema.sections().items():
        assert set(node[section]) == set(model.model_fields) - {"name"}
        for name, value in node[section].items():
            field = model.model_fields[name]
            if field.is_required():
                assert value == "???"
            else:
                assert value == (list(field.default) if isinstance(field.default, tuple) else field.default)


def test_the_schema_is_not_a_choice():
    groups = ConfigGroups().choices
    assert list(groups) == [
        "model",
        "backend",
        "quantization",
        "cache",
        "prompts",
        "decoding",
        "timing",
        "tracking",
        "experiments",
    ]
    assert all("schema" not in choices for choices in groups.values())


def test_the_promised_choices_exist():
    groups = ConfigGroups().choices
    assert {"fable_small", "fable_tiny", "qwen2_0_5b", "mistral_7b", "gpt2", "custom"} <= set(groups["model"])
    assert {"none", "fp32", "bf16", "fp16", "bnb_int8", "bnb_nf4", "bnb_nf4_double", "bnb_fp4"} <= set(
        groups["quantization"]
    )
    assert {"default", "quantized_fp8", "quantized_int8", "quantized_int4"} <= set(groups["cache"])
    assert {"seed_notebook", "storytelling", "questions", "custom"} <= set(groups["prompts"])
    assert {"off", "quick", "thorough"} <= set(groups["timing"])
    assert {"mlflow", "off"} <= set(groups["tracking"])
    assert len(groups["decoding"]) >= 14


def test_every_yaml_says_what_it_is_for():
    files = [*conf_folder().rglob("*.yaml"), *(conf_folder().parent / "experiments").glob("*.yaml")]
    assert len(files) > 40
    for path in files:
        assert len(first_comment(path)) > 20, path
        assert "_target_" not in path.read_text() or path.parent.parent.name == "hydra"


def test_duplicate_names_are_mistakes(tmp_path):
    (tmp_path / "decoding").mkdir()
    (tmp_path / "decoding" / "greedy.yaml").write_text("# mine\ndo_sample: false\n")
    (tmp_path / "decoding" / "mine.yaml").write_text("# mine\ndo_sample: false\n")
    (duplicate,) = ConfigGroups(str(tmp_path)).duplicates()
    assert duplicate.key == "decoding=greedy"
    assert str(tmp_path) in duplicate.message
    assert "mine" in ConfigGroups(str(tmp_path)).choices["decoding"]
