"""One schema: what Hydra knows are the keys and defaults of the pydantic models."""

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from harness.config import schema
from harness.config.places import conf_folder, first_comment
from harness.config.point import Point
from harness.config.search_path import Catalog


def test_hydras_schema_has_the_keys_and_defaults_of_the_point():
    schema.register()
    node = OmegaConf.to_container(ConfigStore.instance().load("schema.yaml").node)
    assert set(node) == set(Point.model_fields) - {"label"} | {"cases", "expect"}
    assert node["cases"] == node["expect"] == []
    for part, model in schema.parts().items():
        assert set(node[part]) == set(model.model_fields) - {"name"}
        for name, value in node[part].items():
            field = model.model_fields[name]
            if field.is_required():
                assert value == "???"
            else:
                assert value == (list(field.default) if isinstance(field.default, tuple) else field.default)


def test_the_schema_is_no_choice():
    groups = Catalog().groups
    assert list(groups) == [
        "model",
        "quantization",
        "cache",
        "prompts",
        "decoding",
        "timing",
        "tracking",
        "experiments",
    ]
    assert all("schema" not in choices for choices in groups.values())


def test_the_promised_choices_are_there():
    groups = Catalog().groups
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


def test_a_clash_of_names_is_told(tmp_path):
    (tmp_path / "decoding").mkdir()
    (tmp_path / "decoding" / "greedy.yaml").write_text("# mine\ndo_sample: false\n")
    (tmp_path / "decoding" / "mine.yaml").write_text("# mine\ndo_sample: false\n")
    (clash,) = Catalog(str(tmp_path)).clashes()
    assert clash.key == "decoding=greedy"
    assert str(tmp_path) in clash.message
    assert "mine" in Catalog(str(tmp_path)).groups["decoding"]
