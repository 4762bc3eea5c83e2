from latentbench.core.opened import reads, sha256_of


def test_a_watch_inside_another_ends_alone(tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("1")
    second.write_text("2")

    with reads([tmp_path]) as outer:
        with reads([tmp_path]) as inner:
            first.read_bytes()
        second.read_bytes()

    assert inner == {str(first): sha256_of(first)}
    assert outer == {str(first): sha256_of(first), str(second): sha256_of(second)}


def test_a_watch_that_found_the_same_is_another(tmp_path):
    read = tmp_path / "read.txt"
    read.write_text("1")

    with reads([tmp_path]) as outer:
        with reads([tmp_path]):
            pass
        read.read_bytes()

    assert outer == {str(read): sha256_of(read)}
