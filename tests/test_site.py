"""Sites, and their spellings in other tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import SiteError
from personaprobe.site import STREAMS, Site
from type_checker import unchecked_types

sites = st.builds(Site, st.integers(0, 200), st.sampled_from(STREAMS))


@given(sites)
def test_parsing_what_a_site_prints_gives_the_site_back(site: Site) -> None:
    assert Site.parse(str(site)) == site


@given(sites)
def test_transformer_lens_names_go_there_and_back(site: Site) -> None:
    assert Site.from_transformer_lens(site.to_transformer_lens()) == site


@given(sites, sites)
def test_sites_sort_as_a_forward_pass_meets_them(a: Site, b: Site) -> None:
    assert (a < b) == ((a.layer, STREAMS.index(a.stream)) < (b.layer, STREAMS.index(b.stream)))


def test_the_output_of_a_block_is_the_next_hidden_state() -> None:
    assert Site(0, "resid_pre").to_hidden_states_index() == 0
    assert (
        Site(0, "resid_post").to_hidden_states_index() == Site(1, "resid_pre").to_hidden_states_index() == 1
    )


@pytest.mark.parametrize("stream", ["attn_out", "resid_mid", "mlp_out"])
def test_streams_inside_a_block_have_no_hidden_states_index(stream: str) -> None:
    with pytest.raises(SiteError, match="inside a block"):
        Site.parse(f"3.{stream}").to_hidden_states_index()


@pytest.mark.parametrize("layer", [-1, 1.5, True, "3"])
@unchecked_types()
def test_a_layer_is_a_block_index_and_nothing_else(layer: object) -> None:
    with pytest.raises(SiteError, match="0-based block index"):
        Site(layer)  # type: ignore[arg-type]


@unchecked_types()
def test_the_error_for_a_misspelt_stream_names_the_nearest() -> None:
    with pytest.raises(SiteError, match='did you mean "resid_post"'):
        Site.parse("3.resid_pos")


@pytest.mark.parametrize("text", ["", "16", "resid_post", "-1.resid_post", "a.b"])
def test_text_that_is_no_site_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SiteError, match=r"16\.resid_post"):
        Site.parse(text)


def test_control_vectors_have_no_layer_zero() -> None:
    assert Site(3).to_control_vector() == "direction.3"
    with pytest.raises(SiteError, match="layer 1 and later"):
        Site(0).to_control_vector()


@pytest.mark.parametrize("layer", ["9" * 5000, "9" * 7, "-1", "1e3", "१६", "0x10"])
def test_a_layer_that_no_model_has_is_refused_in_one_short_line(layer: str) -> None:
    for parse in (
        Site.parse,
        lambda text: Site.from_transformer_lens(f"blocks.{text.partition('.')[0]}.hook_mlp_out"),
    ):
        with pytest.raises(SiteError) as refused:
            parse(f"{layer}.resid_post")
        assert len(str(refused.value)) < 300
