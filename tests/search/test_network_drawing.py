"""The picture of a network: its groups, its links, and what is new."""

from __future__ import annotations

import re

from helpers.report_cases import round_row

from search.commands.grow.story_rounds import network_of
from search.report.drawing import Group, Link, drawn


def test_every_group_and_link_is_named_with_its_numbers() -> None:
    svg = drawn(
        [Group(784, "inputs"), Group(8, "maps", (14, 14), idle="2 dead"), Group(10, "classes")],
        [Link(0, 1, 100, 6272), Link(1, 2, 40, 80, 15), Link(0, 2, 5, 7840)],
    )
    titles = re.findall("<title>(.*?)</title>", svg)
    assert "784 inputs" in titles
    assert "8 maps, 2 dead" in titles
    assert "0 → 1: 100 of 6,272 connections (0.016)" in titles
    assert (
        titles.count("1 → 2: 40 of 80 connections (0.5), 15 of them new") == 2
    )  # the ribbon, and what is new of it
    assert "+15" in svg
    assert "8 14×14" in svg


def test_a_denser_link_is_stronger_and_one_of_more_connections_wider() -> None:
    svg = drawn(
        [Group(10, "inputs"), Group(10, "units"), Group(10, "classes")],
        [Link(0, 1, 10, 100), Link(1, 2, 90, 100)],
    )
    widths = [float(width) for width in re.findall(r'stroke-width="([\d.]+)" stroke-opacity', svg)]
    strengths = [float(strength) for strength in re.findall(r'stroke-opacity="([\d.]+)"><title>', svg)]
    assert widths[0] < widths[1]
    assert strengths[0] < strengths[1]


def test_what_a_round_added_is_new() -> None:
    groups, links = network_of(round_row(3), round_row(2))
    assert [group.units for group in groups] == [64, 13, 10]
    assert [group.is_new for group in groups] == [False, True, False]
    assert [(link.source, link.target, link.added) for link in links] == [(0, 1, 1), (0, 2, 0), (1, 2, 0)]
    assert [group.idle for group in groups] == ["", "1 dead", ""]  # round 2 had two saturated ones
    assert not any(group.is_new for group in network_of(round_row(0), None)[0])


def test_a_group_that_was_inserted_is_new_and_moves_the_others() -> None:
    links = {
        "link_sources": [0, 1, 2],
        "link_targets": [1, 2, 3],
        "link_connections": [9, 8, 30],
        "link_possible": [64, 80, 200],
    }
    idle = {"group_saturated": [0, 0, 2, 0], "group_dead": [0, 1, 3, 0]}
    after = round_row(2, architecture=[64, 5, 12, 10], **links, **idle)
    before = round_row(1, architecture=[64, 12, 10])
    groups, found = network_of(after, before)
    assert [group.is_new for group in groups] == [False, True, False, False]
    assert [group.idle for group in groups] == ["", "1 dead", "2 saturated, 3 dead", ""]
    # 0 → 1 and 1 → 2 are new as a whole; 2 → 3 is what was 1 → 2, of 30 connections then as well.
    assert [link.added for link in found] == [9, 8, 0]


def test_rounds_of_before_there_were_links_in_the_table_have_none() -> None:
    wiring = (
        "link_sources",
        "link_targets",
        "link_connections",
        "link_possible",
        "group_saturated",
        "group_dead",
    )
    groups, links = network_of(round_row(1, **dict.fromkeys(wiring)), None)
    assert links == [] and not any(group.idle for group in groups)
