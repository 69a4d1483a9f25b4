"""The shipped suites: weights that fit their configs, and the published rows that they reach."""

from pathlib import Path

import pytest
import timm

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of
from transfer.suites.published import expectation, figures_of, lines_of
from transfer.suites.steps import plan
from transfer.suites.suite import FineTune, Pretrain, Released, load_suite
from transfer.weights.releases import releases

SUITES = Path(__file__).resolve().parents[3] / "configs" / "suites"
# published figures that a cell will stand beside, those without a cell, those no run can reach
REACHED = {
    "spark_coco": (1, 0, 0),
    "fcmae_table6_coco": (30, 12, 3),
    "fcmae_table7_ade20k": (5, 3, 3),
    "beit_table3_ade20k": (3, 1, 0),
    "beit_table7_ade20k": (6, 0, 6),
    "mae_table4_coco": (14, 6, 8),
    "mae_table5_ade20k": (7, 3, 0),
    "convnext_readme": (22, 0, 4),
}


@pytest.fixture(scope="module", params=sorted(REACHED))
def planned(request, tmp_path_factory):
    suite = load_suite(SUITES / f"{request.param}.py")
    return request.param, suite, plan(suite, tmp_path_factory.mktemp("suite"))


def test_the_rows_that_a_suite_reaches_are_counted(planned):
    name, suite, _ = planned
    remarks = [line.remark for line in lines_of(figures_of(suite.published), suite.cells, [])]
    kinds = ("not run", "the suite has no cell", "no run can stand here")
    assert tuple(sum(r.startswith(kind) for r in remarks) for kind in kinds) == REACHED[name]
    assert len(remarks) == sum(REACHED[name])


def test_weights_are_of_the_network_that_the_config_builds(planned):
    _, suite, steps = planned
    assert suite.cells
    by_cell = {id(step.cell): step.settings["config"] for step in steps if step.cell is not None}
    for cell in suite.cells:
        if isinstance(cell.weights, Released):
            assert cell.weights.name in releases()
        if isinstance(cell.weights, Released | Pretrain | FineTune):
            expected = expectation(cell)
            assert expected is not None
            assert by_cell[id(cell)]["arch"] == expected.arch, cell


@pytest.mark.parametrize(
    ("weights", "configs"),
    [
        ("spark_resnet101", ("spark_resnet101_1x", "spark_resnet50_upernet_512")),
        ("fcmae_convnextv2_nano", ("convnextv2_base_3x", "convnextv2_base_upernet_512")),
        ("convnext_small_1k_224", ("convnext_small_3x", "convnext_small_upernet_512")),
        ("beit_large_pt22k", ("beit_large_100ep", "beit_large_pt_upernet_512")),
        ("mae_vit_large", ("vit_large_100ep", "mae_large_upernet_512")),
        ("deit_small_patch16_224", ("vit_base_100ep", "mae_base_upernet_512")),
    ],
)
def test_any_released_encoder_gets_the_configs_of_its_family(weights, configs, tmp_path):
    suite = load_suite(SUITES / "own_encoder.py", [f"weights={weights}", "seeds=2"])
    assert tuple(dict.fromkeys(Path(cell.task).stem for cell in suite.cells)) == configs
    steps = plan(suite, tmp_path)
    assert len(steps) == 8
    for step in steps:
        assert step.settings["config"]["arch"] == releases()[weights].arch
        assert step.cell.weights is not None or step.settings["config"]["layer_decay"] == 1.0


def test_a_file_of_ones_own_gets_the_configs_of_its_network(tmp_path):
    suite = load_suite(SUITES / "own_encoder.py", [f"weights={encoder_at(tmp_path)}"])
    assert {cell.arch for cell in suite.cells} == {"convnextv2_atto"}
    assert all(cell.arch_args == {"depths": [1, 1, 1, 1]} for cell in suite.cells)


def test_the_proxy_trains_on_a_tenth_of_the_labels(tmp_path):
    proxy = load_suite(SUITES / "proxy.py", [f"weights={encoder_at(tmp_path)}"])
    assert [cell.options[:2] for cell in proxy.cells] == [("freeze=backbone", "budget=quarter")] * 2
    steps = plan(proxy, tmp_path / "out")
    assert [step.settings["config"]["train_share"] for step in steps] == [0.1, 0.1]


def test_any_encoder_is_probed_beside_a_random_one(tmp_path):
    given = [f"weights={encoder_at(tmp_path)}", f"labelled={tmp_path}"]
    suite = load_suite(SUITES / "own_encoder.py", given)
    assert suite.labelled_data == str(tmp_path)
    probes = [step for step in plan(suite, tmp_path / "out") if step.cell.task == "probe"]
    assert [step.command[1] == "none" for step in probes].count(True) == 1
    assert {step.settings["config"]["arch"] for step in probes} == {"convnextv2_atto"}
    assert all(step.settings["config"]["arch_args"] == {"depths": [1, 1, 1, 1]} for step in probes)


def test_a_network_without_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no config is shipped for regnety_002, only for resnet"):
        load_suite(
            SUITES / "own_encoder.py", [f"weights={encoder_at(tmp_path, 'regnety_002', {})}"]
        )


def encoder_at(folder: Path, arch: str = "convnextv2_atto", args: dict | None = None) -> Path:
    """Write an encoder file of an architecture."""
    args = {"depths": [1, 1, 1, 1]} if args is None else args
    identity = identity_of(arch, args, method="fcmae")
    tensors = timm.create_model(arch, num_classes=0, **args).state_dict()
    write_encoder(folder / "encoder.safetensors", tensors, identity)
    return folder / "encoder.safetensors"
