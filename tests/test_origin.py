"""What an export says of itself is checked: a folder may come from anyone."""

import json

import pytest
from helpers import exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.origin import read_origin


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"leaf": 0, "max_positions": [256, 1024]},
        {"text": {"source": "de", "target": "en", "subwords": ["bpecodes"], "vocabulary": [],
                  "vocabulary_threshold": 5, "tokenizer": "moses", "lowercase": True}},
    ],
)  # fmt: skip
def test_what_an_export_writes(said, tmp_path):
    (tmp_path / "export.json").write_text(json.dumps(said))
    assert read_origin(tmp_path) == said


def test_no_file_says_nothing(tmp_path):
    assert read_origin(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "it is no object"),
        ('{"text": []}', "it is no object"),
        ('{"max_positions": [1]}', "max_positions is [1]; expected two numbers"),
        ('{"max_positions": [0, 5]}', "max_positions is [0, 5]; expected two numbers"),
        (
            '{"text": {"subwords": ["/etc/passwd"]}}',
            "its text's subwords is ['/etc/passwd']; expected up to two names of files beside it",
        ),
        (
            '{"text": {"vocabulary": ["../x"]}}',
            "its text's vocabulary is ['../x']; expected up to two names of files beside it",
        ),
        (
            '{"text": {"subwords": ["a", "b", "c"]}}',
            "its text's subwords is ['a', 'b', 'c']; expected up to two names of files beside it",
        ),
        ('{"text": {"subwords": "bpecodes"}}', "its text's subwords is 'bpecodes'"),
        ('{"text": {"lowercase": "yes"}}', "its text's lowercase is 'yes'"),
        ('{"text": {"source": "de\\n# x"}}', "its text's source is 'de\\n# x'"),
        (
            '{"text": {"casing": 1}}',
            "its text has 'casing', which this release does not know; take a newer one",
        ),
    ],
)
def test_anything_else_is_refused(text, problem, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(text)
    message = f"path: '{file}' is not what an export writes: {problem}"
    with pytest.raises(UsageError, match=exactly(message)):
        read_origin(tmp_path)


def test_what_is_no_json(tmp_path):
    (tmp_path / "export.json").write_text("{")
    with pytest.raises(UsageError) as error:
        read_origin(tmp_path)
    begins = f"path: '{tmp_path / 'export.json'}' cannot be read: Expecting"
    assert str(error.value).startswith(begins) and "\n" not in str(error.value)
