"""The kernel's descriptions of its events, of several kernels."""

import numpy as np
import pytest

from pagelab.errors import TraceError
from pagelab.traces.event_format import Field, PageLayout, parse_event_format, parse_header_page
from raw_traces import FORMATS, HEADER_PAGE

ADD = "filemap/mm_filemap_add_to_page_cache"
COMPLETE = "block/block_rq_complete"
# As Linux 5.10 has it: no ioprio, a shorter rwbs, the error elsewhere.
OLD_COMPLETE = """name: block_rq_complete
ID: 1199
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:int error;	offset:28;	size:4;	signed:1;
	field:char rwbs[8];	offset:32;	size:8;	signed:1;
	field:__data_loc char[] cmd;	offset:40;	size:4;	signed:1;

print fmt: "%d,%d %s", ((unsigned int) ((REC->dev) >> 20)), ((unsigned int) ((REC->dev) & ((1U << 20) - 1))), REC->rwbs
"""


def test_number_and_fields_are_the_kernels() -> None:
    add = parse_event_format(ADD, FORMATS[ADD])
    assert add.number == 600
    assert add.fields["index"] == Field(offset=24, size=8, signed=False, is_array=False)
    assert add.fields["common_pid"] == Field(offset=4, size=4, signed=True, is_array=False)
    old = parse_event_format(COMPLETE, OLD_COMPLETE)
    assert (old.number, old.fields["rwbs"], old.fields["cmd"].is_array) == (1199, Field(32, 8, True, True), False)


def test_a_record_is_read_as_far_as_the_last_field_that_is_wanted() -> None:
    new, old = parse_event_format(COMPLETE, FORMATS[COMPLETE]), parse_event_format(COMPLETE, OLD_COMPLETE)
    names = ("common_type", "sector", "error", "rwbs")
    assert new.record_type(names).itemsize == 44
    kind = old.record_type(names)
    assert kind.itemsize == 40
    record = np.frombuffer(
        b"\xaf\x04" + bytes(14) + (77).to_bytes(8, "little") + bytes(4) + b"\xfb\xff\xff\xffRA" + bytes(6), kind
    )
    assert (record["common_type"][0], record["sector"][0], record["error"][0], record["rwbs"][0]) == (
        1199,
        77,
        -5,
        b"RA",
    )


def test_a_field_that_the_kernel_lacks_is_left_out_or_asked_for() -> None:
    text = "\n".join(line for line in FORMATS[ADD].splitlines() if " order;" not in line)
    add = parse_event_format(ADD, text)
    assert add.record_type(("index",), ("order",)).names == ("index",)
    with pytest.raises(TraceError, match="mm_filemap_add_to_page_cache has no field order"):
        add.record_type(("index", "order"))


@pytest.mark.parametrize("text", ["", "hello", "name: x\nID: 5\n", FORMATS[ADD].replace("ID: 600", "ID: six")])
def test_a_text_that_describes_no_event(text: str) -> None:
    with pytest.raises(TraceError, match="block/x has no event number or no common_type"):
        parse_event_format("block/x", text)


def test_where_the_data_of_a_page_begin() -> None:
    assert parse_header_page(HEADER_PAGE) == PageLayout(0, 8, 16, 4080)
    narrow = HEADER_PAGE.replace("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:4")
    layout = parse_header_page(narrow.replace("data;\toffset:16;\tsize:4080", "data;\toffset:12;\tsize:16372"))
    assert (layout.data_offset, layout.page_bytes) == (12, 16384)


def test_a_page_of_unknown_shape() -> None:
    with pytest.raises(TraceError, match="has no data"):
        parse_header_page("\n".join(line for line in HEADER_PAGE.splitlines() if "char data" not in line))
    with pytest.raises(TraceError, match="unknown shape"):
        parse_header_page(HEADER_PAGE.replace("size:4080", "size:4081"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("commit;\toffset:8;", "commit;\toffset:5000;"),
        ("timestamp;\toffset:0;", "timestamp;\toffset:12;"),
        ("timestamp;\toffset:0;\tsize:8", "timestamp;\toffset:0;\tsize:4"),
        ("data;\toffset:16;\tsize:4080", "data;\toffset:16;\tsize:99999996"),
    ],
)
def test_a_page_whose_head_lies_elsewhere_or_that_is_larger_than_any(old: str, new: str) -> None:
    assert old in HEADER_PAGE
    with pytest.raises(TraceError, match="unknown shape") as caught:
        parse_header_page(HEADER_PAGE.replace(old, new))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("place", ["offset:4000;\tsize:2", "offset:1;\tsize:2", "offset:0;\tsize:4"])
def test_a_number_of_an_event_that_lies_elsewhere(place: str) -> None:
    text = FORMATS[ADD].replace("common_type;\toffset:0;\tsize:2", f"common_type;\t{place}")
    with pytest.raises(TraceError, match="lies in an unknown place"):
        parse_event_format(ADD, text)


@pytest.mark.parametrize("shape", ["size:3;", "size:16;", "size:0;"])
def test_a_number_of_a_size_that_no_number_has(shape: str) -> None:
    text = OLD_COMPLETE.replace("sector;\toffset:16;\tsize:8;", f"sector;\toffset:16;\t{shape}")
    with pytest.raises(TraceError, match="a field sector of unknown shape"):
        parse_event_format(COMPLETE, text).record_type(("sector",))
    far = OLD_COMPLETE.replace("sector;\toffset:16;", "sector;\toffset:99999999;")
    with pytest.raises(TraceError, match="a field sector of unknown shape"):
        parse_event_format(COMPLETE, far).record_type(("sector",))


def test_a_number_of_thousands_of_digits_is_none() -> None:
    with pytest.raises(TraceError, match="no event number"):
        parse_event_format(COMPLETE, OLD_COMPLETE.replace("ID: 1199", f"ID: {'9' * 5000}"))
    text = OLD_COMPLETE.replace("offset:16;", f"offset:{'9' * 5000};")
    with pytest.raises(TraceError, match="has no field sector"):
        parse_event_format(COMPLETE, text).record_type(("sector",))
