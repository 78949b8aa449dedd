import random

import pytest

from hpo.registry.chain import Chain, Entry


def chain(*entries: Entry, alias: int | None = None, moving: frozenset[int] = frozenset()) -> Chain:
    return Chain(entries, alias, moving)


def promoted(number: int, seen: int | None = None, against: int | None = None, **other: object) -> Entry:
    return Entry(number, is_promoted=True, seen=number - 1 if seen is None else seen, against=against, **other)  # type: ignore[arg-type]


def kept(number: int) -> Entry:
    return Entry(number, is_promoted=False, seen=number - 1)


def numbers(of: Chain) -> list[int]:
    return [link.number for link in of.links]


def test_a_name_without_versions_has_no_champion() -> None:
    assert (chain().champion, chain().head, chain().seen, chain().is_at_rest) == (None, None, 0, True)


def test_the_last_promotion_that_met_the_one_before_is_the_head() -> None:
    of = chain(promoted(1), kept(2), promoted(3, against=1), kept(4), alias=3)
    assert (numbers(of), of.champion, of.seen) == ([1, 3], 3, 4)


def test_of_two_that_saw_the_same_champion_the_first_number_stands() -> None:
    of = chain(promoted(1), promoted(2, seen=1, against=1), promoted(3, seen=1, against=1), alias=1)
    assert numbers(of) == [1, 2]
    assert of.lost_to(3) == 2
    assert of.lost_to(2) is None


def test_who_lost_does_not_stand_in_the_way_of_who_comes_next() -> None:
    lost = (promoted(2, seen=1, against=1), promoted(3, seen=1, against=1))
    of = chain(promoted(1), *lost, promoted(4, seen=2, against=2), alias=2)
    assert numbers(of) == [1, 2, 4]


def test_a_champion_that_came_in_between_but_was_the_one_compared_with_is_no_loss() -> None:
    of = chain(promoted(1), promoted(2, against=1), promoted(3, seen=1, against=2))
    assert numbers(of) == [1, 2, 3]
    assert chain(*of.entries, promoted(4, seen=1, against=2)).lost_to(4) == 3


def test_a_loss_that_was_noted_holds_when_the_winner_is_deleted() -> None:
    assert numbers(chain(promoted(1), promoted(3, seen=1, against=1, lost=2))) == [1]


def test_the_head_is_champion_while_the_alias_is_still_on_its_way() -> None:
    of = chain(promoted(1), promoted(2, against=1, is_settled=False), alias=1)
    assert (of.champion, of.is_by_hand, of.is_at_rest) == (2, False, False)


def test_where_a_person_put_the_alias_is_the_champion() -> None:
    of = chain(promoted(1), promoted(2, against=1), kept(3), alias=3)
    assert (of.champion, of.is_by_hand, of.is_at_rest) == (3, True, True)
    outside = chain(kept(1), alias=1)
    assert (outside.champion, outside.is_by_hand) == (1, True)


def test_where_a_late_writer_put_the_alias_is_not() -> None:
    of = chain(promoted(1), promoted(2, against=1), alias=1, moving=frozenset({1}))
    assert (of.champion, of.is_by_hand, of.is_at_rest) == (2, False, False)


def test_an_alias_that_was_taken_away_lets_nobody_in_untested() -> None:
    of = chain(promoted(1), promoted(2, against=1))
    assert (of.champion, of.is_at_rest) == (2, True)


def rolled_back(number: int, to: int, against: int) -> Entry:
    return promoted(number, act="rollback", copy_of=to, against=against)


def test_each_rollback_goes_one_step_further_back() -> None:
    three = (promoted(1), promoted(2, against=1), promoted(3, against=2))
    assert chain(*three).before(3) == 2
    once = (*three, rolled_back(4, to=2, against=3))
    assert chain(*once).before(4) == 1
    twice = chain(*once, rolled_back(5, to=1, against=4))
    assert twice.before(5) is None
    assert twice.line == (1,)


def test_after_a_rollback_and_a_promotion_the_one_before_is_what_was_returned_to() -> None:
    of = chain(promoted(1), promoted(2, against=1), rolled_back(3, to=1, against=2), promoted(4, against=3))
    assert (of.line, of.before(4)) == ((1, 4), 1)


def test_a_rollback_may_go_forward_again() -> None:
    of = chain(promoted(1), promoted(2), rolled_back(3, to=1, against=2), rolled_back(4, to=2, against=3))
    assert (of.line, of.before(4)) == ((1, 2), 1)


def test_before_what_a_person_put_there_is_the_head_or_what_was_before_it_then() -> None:
    of = chain(promoted(1), promoted(2, against=1), kept(3), alias=3)
    assert of.before(3) == 2
    assert of.before(1) is None


@pytest.mark.parametrize("seed", range(50))
def test_in_any_order_of_events_every_link_met_the_one_before(seed: int) -> None:
    """Promoters look, test and register in random order; who loses looks and judges again."""
    draw = random.Random(seed)
    entries: list[Entry] = []
    judging: list[tuple[int | None, int]] = []
    for _ in range(60):
        if judging and draw.random() < 0.5:
            against, seen = judging.pop(draw.randrange(len(judging)))
            entries.append(Entry(len(entries) + 1, draw.random() < 0.8, against=against, seen=seen))
            if Chain(tuple(entries)).lost_to(len(entries)) is not None:
                judging.append((Chain(tuple(entries)).champion, len(entries)))
        else:
            judging.append((Chain(tuple(entries)).champion, len(entries)))
    links = Chain(tuple(entries)).links
    assert len(links) > 3
    assert [link.against for link in links[1:]] == [link.number for link in links[:-1]]
    assert links[0].against is None
