import pytest

from pagelab.commands.environment import owner_from_environment
from pagelab.errors import StoreError


def test_results_belong_to_whom_the_launcher_says() -> None:
    assert owner_from_environment({"PAGELAB_OWNER": "1000:100"}) == (1000, 100)
    assert owner_from_environment({}) is None
    with pytest.raises(StoreError, match="uid:gid"):
        owner_from_environment({"PAGELAB_OWNER": "ann"})
