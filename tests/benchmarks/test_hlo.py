"""The bytes of compiled programs, on small texts whose sums are done by hand."""

import pytest

from benchmarks import hlo, traffic

TABLES = """\
HloModule jit_step, is_scheduled=true

FileNames
1 "/home/me/g2ajax/training/state.py"
2 "/lib/flax/nnx/nn/linear.py"

FunctionNames
1 "step"
2 "Linear.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=190 end_line=190 column=8 end_column=20}
2 {file_name_id=2 function_name_id=2 line=422 end_line=428 column=8 end_column=5}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=2 parent_frame_id=1}

"""
ENTRY = "ENTRY %main (p0: f32[4,8], p1: f32[8,2]) -> f32[4,2] {\n"
A = "  %a = f32[4,8]{1,0} parameter(0)\n"
B = "  %b = f32[8,2]{1,0} parameter(1)\n"


def only(text: str, **options) -> traffic.Moved:
    (found,) = traffic.traffic(text, **options)
    return found


def test_a_product_reads_its_operands_and_writes_its_result():
    text = (
        f"{TABLES}{ENTRY}{A}{B}"
        "  ROOT %dot.1 = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, "
        'rhs_contracting_dims={0}, metadata={op_name="jit(step)/dot_general" stack_frame_id=2}\n}\n'
    )
    found = only(text)
    assert (found.kind, found.bytes) == ("matmul", 4 * (32 + 16 + 8))
    assert found.operation == "jit(step)/dot_general"
    # The line of this package that the library was called from.
    assert found.source == "g2ajax/training/state.py:190"


def test_a_line_without_this_package_stays_the_library_s():
    text = f"{TABLES}{ENTRY}{A}  ROOT %c = f32[4,8]{{1,0}} copy(%a), metadata={{stack_frame_id=3}}\n}}\n"
    assert only(text).source == "/lib/flax/nnx/nn/linear.py:422"
    assert only(text).kind == "copy"


def test_what_moves_nothing_is_left_out():
    text = (
        f"{ENTRY}{A}{B}  %v = f32[32]{{0}} bitcast(%a)\n"
        "  %t = (f32[32]{0}, f32[8,2]{1,0}) tuple(%v, %b)\n"
        "  ROOT %g = f32[32]{0} get-tuple-element(%t), index=0\n}\n"
    )
    assert traffic.traffic(text) == []


@pytest.mark.parametrize("dtype", ["s8", "u8"])
def test_workspaces_of_products_are_scratch(dtype):
    text = (
        f"{ENTRY}{A}{B}"
        f"  ROOT %gemm = (bf16[4,2]{{1,0}}, {dtype}[1000]{{0}}) custom-call(%a, %b), "
        'custom_call_target="__cublas$lt$matmul"\n}\n'
    )
    assert traffic.totals(traffic.traffic(text)) == {
        **dict.fromkeys(traffic.KINDS, 0),
        "matmul": 4 * (32 + 16) + 2 * 8,
        "scratch": 1000,
    }


def test_attention_kernels_and_convolutions_are_known_by_their_target():
    text = (
        f"{ENTRY}{A}{B}"
        "  %c = (f32[4,2]{1,0}, u8[0]{0}) custom-call(%a, %b), custom_call_target="
        '"__cudnn$convForward"\n'
        '  %f = (f32[4,2]{1,0}) custom-call(%a, %b), custom_call_target="__cudnn$fmhaSoftmax"\n'
        "}\n"
    )
    assert [one.kind for one in traffic.traffic(text)] == ["matmul", "attention"]


def test_a_fusion_with_a_product_inside_counts_as_one_wherever_it_is_nested():
    inner = "%deep (x: f32[4,8]) -> f32[4,2] {\n  ROOT %d = f32[4,2]{1,0} dot(%x, %y)\n}\n\n"
    outer = (
        "%fused (x: f32[4,8]) -> f32[4,2] {\n  %x = f32[4,8]{1,0} parameter(0)\n"
        "  ROOT %n = f32[4,2]{1,0} fusion(%x), kind=kOutput, calls=%deep\n}\n\n"
    )
    entry = f"{ENTRY}{A}  ROOT %f = f32[4,2]{{1,0}} fusion(%a), kind=kOutput, calls=%fused\n}}\n"
    assert only(inner + outer + entry).kind == "matmul"
    plain = "%fused (x: f32[4,8]) -> f32[4,2] {\n  ROOT %x = f32[4,8]{1,0} parameter(0)\n}\n\n"
    assert only(plain + entry).kind == "fusion"


BODY = """\
%body (t: (s32[], f32[10,4])) -> (s32[], f32[10,4]) {
  %t = (s32[], f32[10,4]{1,0}) parameter(0)
  %x = f32[10,4]{1,0} get-tuple-element(%t), index=1
  ROOT %e = f32[10,4]{1,0} exponential(%x)
}

%cond (t: (s32[], f32[10,4])) -> pred[] {
  ROOT %r = pred[] constant(false)
}

"""


@pytest.mark.parametrize(("config", "trips"), [('"known_trip_count":{"n":"7"}', 7), ("", 1)])
def test_the_body_of_a_loop_counts_once_a_trip(config, trips):
    text = (
        f"{BODY}{ENTRY}  %i = (s32[], f32[10,4]{{1,0}}) tuple(%z, %w)\n"
        "  ROOT %w = (s32[], f32[10,4]{1,0}) while(%i), condition=%cond, body=%body, "
        f"backend_config={{{config}}}\n}}\n"
    )
    found = only(text)
    assert (found.bytes, found.calls) == (trips * 2 * 4 * 40, trips)


def test_an_unwritten_number_of_trips_is_read_from_the_condition():
    """As libtpu writes loops."""
    known = BODY.replace(
        "  ROOT %r = pred[] constant(false)\n",
        "  %p = (s32[], f32[10,4]{1,0}) parameter(0)\n"
        "  %i = s32[] get-tuple-element(%p), index=0\n"
        "  %n = s32[]{:T(128)} constant(12)\n"
        "  ROOT %r = pred[] compare(%i, %n), direction=LT\n",
    )
    loop = (
        f"{ENTRY}  %i = (s32[], f32[10,4]{{1,0}}) tuple(%z, %w)\n"
        "  ROOT %w = (s32[], f32[10,4]{1,0}) while(%i), condition=%cond, body=%body\n}\n"
    )
    assert only(known + loop).calls == 12
    # A bound that is computed is unknown.
    assert only(known.replace("constant(12)", "negate(%i)") + loop).calls == 1


def test_branches_are_entered():
    branch = "%one (x: f32[4]) -> f32[4] {\n  %x = f32[4]{0} parameter(0)\n  ROOT %n = f32[4]{0} negate(%x)\n}\n\n"
    other = branch.replace("%one", "%two").replace("negate", "sine")
    text = (
        f"{branch}{other}{ENTRY}"
        "  ROOT %c = f32[4]{0} conditional(%p, %q, %q), branch_computations={%one, %two}\n}\n"
    )
    assert [one.operation for one in traffic.traffic(text)] == ["negate", "sine"]


def test_a_slice_written_in_place_counts_alone():
    fused = """\
%update (s: f32[12,100], r: f32[1,100], i: s32[]) -> f32[12,100] {
  %s = f32[12,100]{1,0} parameter(0)
  %r = f32[1,100]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %n = f32[1,100]{1,0} negate(%r)
  ROOT %d = f32[12,100]{1,0} dynamic-update-slice(%s, %n, %i, %i)
}

"""
    entry = (
        "ENTRY %main (s: f32[12,100]) -> f32[12,100] {\n  %s0 = f32[12,100]{1,0} parameter(0)\n"
        "  %r0 = f32[1,100]{1,0} parameter(1)\n  %i0 = s32[] parameter(2)\n"
        "  ROOT %f = f32[12,100]{1,0} fusion(%s0, %r0, %i0), kind=kLoop, calls=%update\n}\n"
    )
    # One row read, one written, and the index.
    assert only(fused + entry).bytes == 400 + 400 + 4


def test_a_slice_that_is_read_counts_alone_also_behind_a_bitcast():
    fused = """\
%pick (s: f32[12,100], i: s32[]) -> f32[100] {
  %s = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %v = f32[12,100]{1,0} bitcast(%s)
  %d = f32[1,100]{1,0} dynamic-slice(%v, %i, %i), dynamic_slice_sizes={1,100}
  ROOT %b = f32[100]{0} bitcast(%d)
}

"""
    entry = (
        "ENTRY %main (s: f32[12,100]) -> f32[100] {\n  %s0 = f32[12,100]{1,0} parameter(0)\n"
        "  %i0 = s32[] parameter(1)\n"
        "  ROOT %f = f32[100]{0} fusion(%s0, %i0), kind=kLoop, calls=%pick\n}\n"
    )
    assert only(fused + entry).bytes == 400 + 400 + 4


def test_gathered_rows_count_alone():
    """The images of a batch, out of a store on the device."""
    store = "  %s = u8[1000,100]{1,0} parameter(0)\n  %i = s32[4]{0} parameter(1)\n"
    gather = "  ROOT %g = u8[4,100]{1,0} gather(%s, %i), offset_dims={1}\n}\n\n"
    plain = f"ENTRY %main (s: u8[1000,100]) -> u8[4,100] {{\n{store}{gather}"
    assert only(plain).bytes == 400 + 16 + 400
    fused = f"%rows (s: u8[1000,100]) -> u8[4,100] {{\n{store}{gather}"
    entry = (
        f"ENTRY %main (s: u8[1000,100]) -> u8[4,100] {{\n{store}"
        "  ROOT %f = u8[4,100]{1,0} fusion(%s, %i), kind=kLoop, calls=%rows\n}\n"
    )
    assert only(fused + entry).bytes == 400 + 16 + 400


def test_a_collective_counts_its_bytes_and_what_a_ring_sends():
    text = (
        f"{ENTRY}{A}{B}"
        "  %r = f32[4,8]{1,0} all-reduce(%a), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add\n"
        "  %g = f32[64,2]{1,0} all-gather(%b), channel_id=2, replica_groups=[2,8]<=[16], "
        "dimensions={0}\n"
        "  ROOT %s = f32[1,8]{1,0} reduce-scatter(%a), channel_id=3, "
        "replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}\n}\n"
    )
    found = traffic.collectives(traffic.traffic(text, devices=16))
    assert found == {
        "all-reduce": (1, 128 + 128, 2 * 128 * 3 // 4),
        "all-gather": (1, 64 + 512, 512 * 7 // 8),
        "reduce-scatter": (1, 128 + 32, 128 * 3 // 4),
    }


def test_started_collectives_count_once_with_their_end_free():
    text = (
        f"{ENTRY}{A}"
        "  %r = f32[4,8]{1,0} all-reduce-start(%a), channel_id=1, to_apply=%add\n"
        "  %d = f32[4,8]{1,0} all-reduce-done(%r)\n"
        "  %g = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%a), channel_id=2\n"
        "  ROOT %h = f32[16,8]{1,0} all-gather-done(%g)\n}\n"
    )
    found = traffic.collectives(traffic.traffic(text, devices=4))
    assert found == {"all-reduce": (1, 256, 192), "all-gather": (1, 128 + 512, 384)}


def test_a_collective_spread_over_fusions_counts_once():
    fused = """\
%begin (x: f32[4,8]) -> f32[16,8] {
  %x = f32[4,8]{1,0} parameter(0)
  ROOT %g1 = f32[16,8]{1,0} all-gather(%x), channel_id=9
}

%end (x: f32[4,8]) -> f32[16,8] {
  %x = f32[4,8]{1,0} parameter(0)
  ROOT %g2 = f32[16,8]{1,0} all-gather(%x), channel_id=9
}

"""
    text = (
        f"{fused}{ENTRY}{A}  %f = f32[16,8]{{1,0}} fusion(%a), kind=kCustom, calls=%begin\n"
        "  ROOT %h = f32[16,8]{1,0} fusion(%a), kind=kCustom, calls=%end\n}\n"
    )
    assert traffic.collectives(traffic.traffic(text, devices=4)) == {"all-gather": (1, 640, 384)}
    assert len(traffic.traffic(text)) == 1


def test_an_all_reduce_fused_with_its_slice_is_a_reduce_scatter():
    fused = """\
%all-reduce-scatter.1 (x: f32[16,8]) -> f32[4,8] {
  %x = f32[16,8]{1,0} parameter(0)
  %r = f32[16,8]{1,0} all-reduce(%x), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %s = f32[4,8]{1,0} dynamic-slice(%r, %i, %j), dynamic_slice_sizes={4,8}
}

"""
    text = (
        f"{fused}ENTRY %main (p0: f32[16,8]) -> f32[4,8] {{\n  %a = f32[16,8]{{1,0}} parameter(0)\n"
        "  ROOT %f = f32[4,8]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1\n}\n"
    )
    found = traffic.collectives(traffic.traffic(text, devices=4))
    assert found == {"reduce-scatter": (1, 512 + 128, 384)}


def test_async_calls_are_entered():
    inner = "%wrapped (x: f32[4,8]) -> f32[4,8] {\n  %x = f32[4,8]{1,0} parameter(0)\n  ROOT %n = f32[4,8]{1,0} negate(%x)\n}\n\n"
    text = (
        f"{inner}{ENTRY}{A}"
        "  %s = ((f32[4,8]{1,0}), f32[4,8]{1,0}, u32[]) async-start(%a), calls=%wrapped\n"
        "  ROOT %d = f32[4,8]{1,0} async-done(%s)\n}\n"
    )
    assert only(text).bytes == 256


def test_memory_on_the_chip_is_free_and_a_copy_there_reads_once():
    text = (
        "ENTRY %main (a: f32[4,8]) -> f32[4,8] {\n"
        "  %a = f32[4,8]{1,0:T(8,128)} parameter(0)\n"
        "  %c = (f32[4,8]{1,0:T(8,128)S(1)}, f32[4,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)\n"
        "  %d = f32[4,8]{1,0:T(8,128)S(1)} copy-done(%c)\n"
        "  %p = ((f32[4,8]{1,0}), f32[2,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:8]}\n"
        "  %q = f32[2,8]{1,0:S(1)} slice-done(%p)\n"
        "  ROOT %n = f32[4,8]{1,0:T(8,128)} negate(%d)\n}\n"
    )
    found = traffic.traffic(text, on_chip=hlo.TPU_ON_CHIP)
    assert [(one.kind, one.bytes) for one in found] == [("copy", 128), ("copy", 64), ("other", 128)]
    # Elsewhere the same spaces are memory like any other.
    assert [one.bytes for one in traffic.traffic(text)] == [256, 128, 256]


def test_the_largest_movers_are_added_up_over_layers():
    def layer(number: int) -> str:
        return (
            f"  %n{number} = f32[4,8]{{1,0}} negate(%a), "
            f'metadata={{op_name="jit(step)/layer{number}/neg" source_file="net.py" source_line=3}}\n'
        )

    text = f"{ENTRY}{A}{layer(0)}{layer(1)}  ROOT %c = f32[4,8]{{1,0}} copy(%a)\n}}\n"
    first, second = traffic.largest(traffic.traffic(text))
    assert (first.bytes, first.calls, first.source) == (512, 2, "net.py:3")
    assert (second.bytes, second.kind) == (256, "copy")
