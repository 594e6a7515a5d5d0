"""Where operations are played: scenes (who, where, with what) and what usually happens in them.

Times are whole microseconds since the start of the stream.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from audit.samples import operations
from audit.samples.people import WORKER_AGENT, Cast, Facts, Person

MILLISECOND, SECOND, MINUTE = 1_000, 1_000_000, 60_000_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE

OPEN_SHARE = 0.003
"""How many attempts never have an outcome."""

# Precomputed, because drawing from a distribution costs as much as a whole event.
_ANSWERS = tuple(int(20 * MILLISECOND * 1_500 ** ((n / 1_023) ** 3)) for n in range(1_024))
"""How long an operation takes: 20 ms to 30 s, mostly well under a second."""
_PAUSES = tuple(int(2 * SECOND * 150 ** (n / 1_023)) for n in range(1_024))
"""How long people wait before the next thing they do: 2 s to 5 min."""


class Scene(NamedTuple):
    """What the events of a visit share.

    `fields` are those of the wire format, `facts` what contexts and resource ids are filled from.
    """

    source: str
    fields: dict[str, Any]
    facts: Facts


class Stage:
    """Plays operations until `left` events are made; none at or after `end`.

    `played` collects (time, source, event), in no order. Contexts may share values with each
    other: whoever takes them must not change them.
    """

    def __init__(self, random: Random, cast: Cast, *, count: int, end: int) -> None:
        self.random = random
        self.cast = cast
        self.left = count
        self.end = end
        self.played: list[tuple[int, str, dict[str, Any]]] = []
        self._plots = operations.make_plots(random)
        self._mixes = {
            place: operations.mix(place) for place in ("visit", "door", "console", "job")
        }

    # --- one operation -------------------------------------------------------------------------

    def play(self, at: int, operation: str, scene: Scene, *, action: str = "", **said: Any) -> int:
        """Have an operation begin at `at`, and return when it is over.

        It ends with `action` if one is named. `said` replaces values of context keys it has.
        """
        random, facts = self.random.random, scene.facts
        plot = self._plots[operation]
        variant = self._variant(plot, action)
        fields = self._fields(plot.resource, variant[0].context, scene.facts) | scene.fields
        if len(variant) > 1:
            fields["correlation_id"] = f"{self.random.getrandbits(48):012x}"
            if random() < OPEN_SHARE and not action:
                variant = variant[:1]
        source = "api-gateway" if operation in operations.GATEWAY else scene.source
        for line in variant:
            if at >= self.end or not self.left:
                break
            context = line.context.copy()
            for key, fact in line.from_scene:
                context[key] = facts[fact]
            for key in said.keys() & context.keys():
                context[key] = said[key]
            self.left -= 1
            self.played.append((at, source, {"action": line.action, **fields, "context": context}))
            at += _ANSWERS[int(random() * 1_024)]
        return at

    def _variant(self, plot: operations.Plot, action: str) -> operations.Variant:
        draw = self.random.random
        if action:
            variants = plot.by_action[action]
        else:
            variants = plot.failures if draw() < plot.failing else plot.successes
        return variants[int(draw() * len(variants))]

    def _fields(self, resource: str, context: Facts, facts: Facts) -> dict[str, Any]:
        """What an operation's events share besides the scene's fields."""
        bits = self.random.getrandbits(48)  # no identifier is as long as a card number
        if fact := operations.RESOURCE_FACTS.get(resource):
            resource_id = facts[fact]
        elif key := operations.RESOURCE_KEYS.get(resource):
            resource_id = context[key]
        else:
            resource_id = f"{resource}-{bits >> 32}"
        return {
            "resource_type": resource,
            "resource_id": resource_id,
            "request_id": f"req-{bits:012x}",
        }

    # --- what usually happens ------------------------------------------------------------------

    def visit(self, at: int) -> None:
        """A user signs in, does a few things, and perhaps signs out."""
        scene = self.visit_scene(self.anyone())
        at = self.sign_in(at, scene)
        for operation in self._usual("visit", 2 + int(self.random.expovariate(0.1))):
            at = self.play(at + self.pause(), operation, scene)
        if self.random.random() < 0.7:
            self.play(at + self.pause(), "user_logout", scene)

    def door(self, at: int) -> None:
        """Somebody who has not signed in registers, or has lost the password."""
        scene = self.door_scene(self.anyone())
        for operation in self._usual("door", 2):
            at = self.play(at, operation, scene) + self.pause()

    def console(self, at: int) -> None:
        """An administrator signs in and works on a few users' accounts."""
        administrator = self.random.choice(self.cast.administrators)
        session = self.session()
        own = self.console_scene(administrator, administrator, session)
        at = self.sign_in(at, own)
        for operation in self._usual("console", 2 + int(self.random.expovariate(0.2))):
            scene = self.console_scene(administrator, self.anyone(), session)
            at = self.play(at + self.pause(), operation, scene)
        self.play(at + self.pause(), "user_logout", own)

    def job(self, at: int) -> None:
        """The sync worker brings one user's data up to date."""
        scene = self.job_scene(self.anyone())
        for operation in self._usual("job", 1 + int(self.random.random() * 4)):
            at = self.play(at, operation, scene) + SECOND

    def sign_in(self, at: int, scene: Scene) -> int:
        """Sign in; whoever mistypes tries again, and succeeds."""
        made = len(self.played)
        at = self.play(at, "user_login", scene)
        if self.played[made:] and self.played[-1][2]["action"] != "user_login_success":
            at = self.play(at + 8 * SECOND, "user_login", scene, action="user_login_success")
        return at

    def _usual(self, place: str, count: int) -> list[str]:
        mix = self._mixes[place]
        return self.random.choices(mix.operations, cum_weights=mix.weights, k=count)

    # --- scenes --------------------------------------------------------------------------------

    def anyone(self) -> Person:
        """A user; some come far more often than others."""
        return self.cast.users[int(self.random.random() ** 2 * len(self.cast.users))]

    def pause(self) -> int:
        return _PAUSES[int(self.random.random() * 1_024)]

    def session(self) -> str:
        return f"s-{self.random.getrandbits(48):012x}"

    def visit_scene(self, person: Person, address: str = "", agent: str = "") -> Scene:
        draw = self.random.random
        mobile = draw() < 0.4
        address = address or person.addresses[int(draw() * len(person.addresses))]
        fields = {
            "user_id": person.user_id,
            "actor_type": "user",
            "ip_address": address,
            "user_agent": agent or (person.phone if mobile else person.browser),
        }
        if draw() < 0.15:
            fields["purpose"] = "account_service"
        facts = self._facts(person, actor=person.user_id, who="user", address=address)
        return Scene("mobile-api" if mobile else "web-app", fields, facts)

    def door_scene(self, person: Person) -> Scene:
        fields = {
            "actor_type": "anonymous",
            "subject_id": person.user_id,
            "ip_address": person.addresses[0],
            "user_agent": person.browser,
        }
        facts = self._facts(person, actor="anonymous", who="user", address=person.addresses[0])
        return Scene("web-app", fields, facts)

    def console_scene(self, administrator: Person, target: Person, session: str) -> Scene:
        address = administrator.addresses[0]
        fields = {
            "user_id": administrator.user_id,
            "actor_type": "admin",
            "ip_address": address,
            "user_agent": administrator.browser,
        }
        if target is not administrator:
            fields["subject_id"] = target.user_id
            fields["purpose"] = "customer_support"
        facts = self._facts(target, actor=administrator.user_id, who="admin", address=address)
        return Scene("admin-console", fields, facts | {"session_id": session})

    def job_scene(self, person: Person) -> Scene:
        fields = {
            "actor_type": "service",
            "subject_id": person.user_id,
            "ip_address": "198.51.100.5",
            "user_agent": WORKER_AGENT,
        }
        facts = self._facts(person, actor="system", who="system", address="198.51.100.5")
        return Scene("sync-worker", fields, facts)

    def _facts(self, person: Person, *, actor: str, who: str, address: str) -> Facts:
        connections = person.connections
        return {
            **connections[int(self.random.random() * len(connections))],
            "user_id": person.user_id,
            "email": person.email,
            "actor": actor,
            "who": who,
            "ip_address": address,
            "session_id": self.session(),
        }
