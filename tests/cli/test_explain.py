"""``explain``: a finding's code in words."""

from rnn_export.findings import FINDINGS


def test_a_code_is_explained_with_what_to_do(cli):
    found = cli("explain", "frozen-length")
    assert (found.code, found.err) == (0, "")
    assert "made for one size" in found.out
    assert "What to do: " in found.out


def test_without_a_code_all_are_listed(cli):
    lines = cli("explain").out.splitlines()
    assert [line.split()[0] for line in lines] == list(FINDINGS)


def test_an_unknown_code_is_one_line_with_code_2(cli):
    found = cli("explain", "frozen")
    assert (found.code, found.out, len(found.err.splitlines())) == (2, "", 1)
