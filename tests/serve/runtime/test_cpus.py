import os

import pytest

from cellgate.serve.runtime.cpus import cgroup_quota, usable_cpus


def lay(root, **files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_without_a_quota_affinity_counts(tmp_path):
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_quota_of_half_a_cpu_leaves_one(tmp_path):
    lay(tmp_path, **{"sys/fs/cgroup/cpu.max": "50000 100000\n"})

    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="no-groups"),
        pytest.param({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None, id="v2-unlimited"),
        pytest.param({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5, id="v2"),
        pytest.param({"sys/fs/cgroup/cpu.max": "garbage"}, None, id="v2-garbage"),
        pytest.param({"sys/fs/cgroup/cpu.max": "1 0"}, None, id="v2-no-period"),
        pytest.param(
            {
                "proc/self/cgroup": "1:cpu:/old\n0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            2.0,
            id="v2-group-above",
        ),
        pytest.param(
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            3.0,
            id="v1",
        ),
        pytest.param(
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
            id="v1-unlimited",
        ),
    ],
)
def test_quota_of_the_control_group(tmp_path, files, expected):
    lay(tmp_path, **files)

    assert cgroup_quota(tmp_path) == expected
