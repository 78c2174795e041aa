"""corral net: the network cards of a guest that runs, and where it may connect to from here on."""

from __future__ import annotations

import json

from corral import network
from corral.cli import guest_name
from corral.cli.options import Command, Option
from corral.printable import printable
from corral.running import cards, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    name="net",
    summary="""\
Shows the network cards of the guest NAME, and changes where it may connect to while it runs. The rules are held
outside of the guest, and hold for its next frame: connections that they do not allow any more get no further.""",
    operands=("NAME",),
    options=(
        Option("allow", "HOST[:PORT]", "it may connect there, and else nowhere but by other --allow; may be repeated"),
        Option("deny", "HOST[:PORT]", "it may not connect there, whatever is allowed; may be repeated"),
        Option("forget", "HOST[:PORT]", "takes that rule back; what is not allowed stays so; may be repeated"),
        Option("anew", "", "takes back all rules first; alone: it may connect anywhere"),
        Option("json", "", "for programs"),
    ),
    epilog="""\
examples:
  corral net web                                 its cards, rules and counters
  corral net web --allow example.org:443         there too, if something is allowed already; else there alone
  corral net web --allow none                    nowhere but where another rule allows it
  corral net web --anew --deny host              anywhere but to this host

A rule is as corral boot --allow has it. Each change looks all names up again: their addresses are those of now. A guest
answers what has come in by --publish whatever is denied.""",
)


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    path = place.running(arguments.operands[0]).path(place.CONTROL)
    values, every = arguments.values, arguments.every
    if {"allow", "deny", "forget", "anew"} & values.keys():
        allow, deny, forget = (every.get(name, []) for name in ("allow", "deny", "forget"))
        seen = cards.change(arguments.operands[0], path, allow, deny, forget, "anew" in values)
    else:
        seen = cards.look(path)
    if "json" in values:
        print(json.dumps({"cards": seen.cards}, indent=2))
    else:
        print("\n".join(line for card in seen.cards for line in _lines(card)) or "it has no network card")
    return 0


def _lines(card: dict[str, Any]) -> list[str]:
    kind = " ".join(filter(None, (card["to"], printable(card["target"]))))
    link = "up" if card["link"] else "down: there is no other end"
    lines = [f"{card['name']}: {kind}, {card['mac']}" + (f", MTU {card['mtu']}" if card["mtu"] else "")]
    lines.append(f"  link: {link}")
    if card["to"] == "user":
        where = f"{network.GATEWAY} is this host, {network.RESOLVER} its resolver"
        lines.append(f"  address: {card['address']}; {where}")
    lines += [f"  published: {one}" for one in card["published"]]
    rules = cards.rules_of(card)
    lines += [f"  {'deny' if rule.denies else 'allow'}: {rule.text}" for rule in rules if rule.host != network.NONE]
    lines.append(f"  all else: {'denied' if network.denies_rest(rules) else 'allowed'}")
    counted = card["counters"]
    lines.append(
        f"  frames: {counted['sent']} from the guest, {counted['received']} to it, {counted['filtered']} not allowed, "
        f"{counted['sent_dropped'] + counted['received_dropped'] + counted['refused']} dropped"
    )
    return lines
