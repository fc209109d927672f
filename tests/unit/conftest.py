from pathlib import Path

CONFIGURATIONS = Path(__file__).parents[2] / "runner" / "configs"


def pytest_generate_tests(metafunc):
    if "shipped_configuration" in metafunc.fixturenames:
        files = sorted(CONFIGURATIONS.glob("*.yml"))
        assert files
        metafunc.parametrize("shipped_configuration", files, ids=lambda file: file.name)
