"""Memory that is freed stays with the process."""

import platform

from simgraph.processor.memory import keep_freed_memory


def test_glibc_is_told_and_others_are_left_alone(monkeypatch):
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
