"""Identifiers and generated names."""

from __future__ import annotations

import os
import random
import time
from uuid import UUID

ADJECTIVES = (
    "able agile amber ample apt azure balmy bold brave breezy bright brisk calm candid civil clear clever coral cosmic crisp "
    "curious daring deft dusky eager early easy electric elegant emerald fabled fair fearless fierce fleet fluent fond frank "
    "fresh gallant gentle gifted glad golden graceful grand green hardy hasty hazel honest humble icy ideal indigo jade jolly "
    "jovial keen kind laurel lively lofty loyal lucid lucky lunar mellow merry mighty mild modest neat nimble noble olive "
    "opal open orderly patient placid plucky polar polished prime proud quick quiet rapid ready regal robust rosy royal ruby "
    "rustic sage serene sharp silent silver sleek smart snowy solar solid spry stable steady stellar sunny swift tidy tranquil "
    "trusty upbeat valiant velvet vivid warm wise witty zesty"
).split()
ANIMALS = (
    "alpaca antelope badger beaver bison bobcat buffalo camel caribou cheetah condor cormorant cougar coyote crane cricket "
    "curlew deer dingo dolphin dove dragonfly eagle egret elk falcon ferret finch firefly flamingo fox gazelle gecko gibbon "
    "giraffe goose grouse gull hare hawk hedgehog heron hornbill ibex ibis iguana impala jackal jaguar jay kestrel kingfisher "
    "kite koala lark lemur leopard lion llama lobster lynx macaw magpie mallard manatee marmot marten meerkat mole mongoose "
    "moose narwhal newt nightjar ocelot octopus oriole osprey otter owl panther parrot pelican penguin petrel pheasant plover "
    "puffin puma quail rabbit raccoon raven robin salmon seal serval shrike sparrow squid starling stork swallow swan tapir "
    "tern thrush tiger toucan trout turtle viper vole walrus weasel whale wolf wombat wren yak zebra"
).split()


def time_ordered() -> UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def random_name() -> str:
    """A two-word name for a run that was given none, such as `brisk-otter`."""
    return f"{random.choice(ADJECTIVES)}-{random.choice(ANIMALS)}"
