"""The moments of the long form: every place, every time that it comes by."""

from injections import Injection, killed_and_mended, killed_at

LONG_KILLS = {
    "plain": {
        **dict.fromkeys(("after-ask", "tell-mirror", "mirror-create"), 5),
        **dict.fromkeys(("before-report", "after-report"), 9),
        **dict.fromkeys(("at-rung", "retain", "checkpoint", "checkpoint-rename"), 3),
        "mirror-cursor": 2,
        "finish": 1,
    },
    "confirm": {"confirm-ask": 4, "confirm-report": 6, "confirm-tell": 4},
    "promote": dict.fromkeys(("promotion-model", "promotion-version", "promotion-alias", "promotion-outcome"), 1),
}
"""By place, up to which time: in the long form, at every one of them."""

SEEDS = (3, 4, 5, 6)


def more_moments() -> list[Injection]:
    """The rest of the long form: every place, every time, several seeds; killed twice; killed, mended and gone on with;
    and the places on Ray."""
    found = []
    for kind, places in LONG_KILLS.items():
        moments = [f"{place}:{time}" for place, most in places.items() for time in range(1, most + 1)]
        for seed in SEEDS:
            own = {"seed": str(seed)}
            found += [
                Injection(
                    f"kill -9, {one}, seed {seed}",
                    killed_at(one),
                    "-9, then 0",
                    kind=kind,
                    family=f"kill -9 of the driver, {one.partition(':')[0]}",
                    changes=own,
                )
                for one in moments
            ]
        found += [
            Injection(
                f"kill -9, verify --repair, {one}",
                killed_and_mended(one),
                "-9, 1, 0, then 0",
                kind=kind,
                family="kill -9, verify --repair",
            )
            for one in moments[::2]
        ]
        found += [
            Injection(
                f"kill -9, {one} and {other}",
                killed_at(one, other),
                "-9, -9, then 0",
                kind=kind,
                family="kill -9 of two drivers, one after the other",
            )
            for one, other in zip(moments[::2], moments[1::2], strict=False)
        ]
        found += [
            Injection(
                f"Ray: kill -9 of the driver, {one}",
                killed_at(one),
                "-9, then 0",
                kind=kind,
                runner="ray",
                family="Ray: kill -9 of the driver, at a place",
            )
            for one in moments[:: 3 if kind == "plain" else 1]
            if not one.startswith("checkpoint")
        ]
    return found
