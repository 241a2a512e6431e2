"""
Chains that cost more to judge than they cost to send, one maker for each kind, for measurements and tests.

How to use it::

    for kind in CHAINS:
        chain = make_chain(kind, root=anchor_name_der, octets=64 * 1024)       # anybody can send this
        chain = make_chain(kind, root=anchor_name_der, octets=…, key=ca_key)   # a CA below the anchor could

Certificates are DER, leaf first. Without the anchor's key the topmost signature is wrong, everything else is as it
should be. Nothing here is random but the keys: the same kind and size give chains of the same shape.

More than 400 lines: a function for each kind of chain, and the table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from bench.certificates import certificate, ec_key, extension, fill, name, rsa_spki, spki
from cftpki_ext.x509 import der

_CA_OCTETS = 700  # a certificate of the makers without what makes it large

_SAN = "551d11"
_NAME_CONSTRAINTS = "551d1e"
_POLICIES = "551d20"
_MAPPINGS = "551d21"
_EKU = "551d25"
_POINTS = "551d1f"
_ACCESS = "2b06010505070101"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """
    What a maker is told: the anchor's name and perhaps its key, and how many octets the chain may have.
    """

    root: bytes
    key: Any
    octets: int

    def pair(
        self, ca_extensions: Sequence[bytes], leaf_extensions: Sequence[bytes], **leaf: Any
    ) -> tuple[bytes, ...]:
        """
        A leaf below a CA below the anchor.
        """
        ca = certificate(
            name("Stranger CA"),
            self.root,
            key=spki(ec_key(1)),
            signer=self.key,
            extensions=ca_extensions,
            ca=True,
        )
        leaf_subject = leaf.pop("subject", name("stranger.example"))
        end = certificate(
            leaf_subject,
            name("Stranger CA"),
            key=leaf.pop("key", spki(ec_key(2))),
            signer=ec_key(1),
            extensions=leaf_extensions,
            **leaf,
        )
        return end, ca

    def beside(self, make: Callable[[int, int], bytes], each: int) -> tuple[bytes, ...]:
        """
        An ordinary leaf with as many certificates beside it as fit, of `each` octets.
        """
        end, ca = self.pair((), ())
        count = max(1, (self.octets - len(end) - len(ca)) // each)
        return (end, ca, *(make(number, each - _CA_OCTETS) for number in range(count)))


def _constrained(
    plan: _Plan, tag: int, base: Callable[[int], bytes], names: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """
    A CA that is full of excluded subtrees, and a leaf that is full of names.
    """
    room = min((plan.octets - 2 * _CA_OCTETS) // 2, 31 * 1024)
    return plan.pair(
        (
            extension(
                _NAME_CONSTRAINTS,
                der.encode(
                    der.SEQUENCE,
                    der.encode(
                        0xA1, *fill(room, lambda n: der.encode(der.SEQUENCE, der.encode(tag, base(n))))
                    ),
                ),
                critical=True,
            ),
        ),
        (extension(_SAN, der.encode(der.SEQUENCE, *fill(room, lambda n: der.encode(tag, names(n))))),),
    )


def _long_host(number: int) -> bytes:
    return b"%d." % number + b".".join([b"a" * 62] * 30) + b".example"


def _dns_constraints(plan: _Plan) -> tuple[bytes, ...]:
    return _constrained(plan, 0x82, lambda n: b"x%d" % n, _long_host)


def _many_dns_constraints(plan: _Plan) -> tuple[bytes, ...]:
    return _constrained(plan, 0x82, lambda n: b"%x" % n, lambda n: b"%x.y" % n)


def _uri_constraints(plan: _Plan) -> tuple[bytes, ...]:
    return _constrained(plan, 0x86, lambda n: b"x%d" % n, lambda n: b"http://" + _long_host(n) + b"/")


def _email_constraints(plan: _Plan) -> tuple[bytes, ...]:
    return _constrained(plan, 0x81, lambda n: b"x%d" % n, lambda n: b"a@" + _long_host(n))


def _directory_constraints(plan: _Plan) -> tuple[bytes, ...]:
    rdns = b"".join(
        der.encode(
            der.SET,
            der.encode(der.SEQUENCE, bytes.fromhex("0603550403"), der.encode(der.UTF8_STRING, b"a" * 8)),
        )
        for _ in range(60)
    )

    def deep(number: int) -> bytes:
        last = der.encode(
            der.SEQUENCE, bytes.fromhex("0603550403"), der.encode(der.UTF8_STRING, b"%d" % number)
        )
        return der.encode(der.SEQUENCE, rdns, der.encode(der.SET, last))

    return _constrained(plan, 0xA4, deep, deep)


def _address_constraints(plan: _Plan) -> tuple[bytes, ...]:
    return _constrained(
        plan, 0x87, lambda n: n.to_bytes(4, "big") + b"\xff" * 4, lambda n: (n + (1 << 31)).to_bytes(4, "big")
    )


def _combining(plan: _Plan) -> tuple[bytes, ...]:
    # Two marks of different classes in turn: sorting them canonically costs the square of their number.
    marks = ("a" + "\u0315\u0300\u0327" * 1200).encode()

    def make(number: int, room: int) -> bytes:
        return certificate(
            name(marks[:room] + b"%d" % number), name("x"), key=spki(ec_key(3)), signer=ec_key(3), ca=True
        )

    return plan.beside(make, 8 * 1024)


def _combining_names(plan: _Plan) -> tuple[bytes, ...]:
    marks = ("a" + "\u0315\u0300\u0327" * 1200).encode()
    names = fill(
        min(plan.octets - 2 * _CA_OCTETS, 30 * 1024), lambda n: der.encode(0xA4, name(marks + b"%d" % n))
    )
    return plan.pair((), (extension(_SAN, der.encode(der.SEQUENCE, *names)),))


def _controls(plan: _Plan) -> tuple[bytes, ...]:
    names = fill(
        min(plan.octets - 2 * _CA_OCTETS, 30 * 1024),
        lambda n: der.encode(0xA4, name(b"\x01" * 7000 + b"%d" % n)),
    )
    return plan.pair((), (extension(_SAN, der.encode(der.SEQUENCE, *names)),))


def _expanding(plan: _Plan) -> tuple[bytes, ...]:
    # One character of three octets that becomes eighteen.
    names = fill(
        min(plan.octets - 2 * _CA_OCTETS, 30 * 1024),
        lambda n: der.encode(0xA4, name("\ufdfa" * 2400 + str(n))),
    )
    return plan.pair((), (extension(_SAN, der.encode(der.SEQUENCE, *names)),))


def _exponents(plan: _Plan) -> tuple[bytes, ...]:
    bits = 3072
    signature = b"\x01" * (bits // 8)
    mesh = name("Mesh")

    def make(number: int, _room: int) -> bytes:
        return certificate(
            mesh,
            plan.root,
            key=rsa_spki(bits, (1 << bits) - 23_456_789 - 2 * number),
            signer=signature,
            ca=True,
        )

    count = max(1, plan.octets // 1500)
    leaf = certificate(name("stranger.example"), mesh, key=spki(ec_key(2)), signer=signature)
    return (leaf, *(make(number, 0) for number in range(count)))


def _big_moduli(plan: _Plan) -> tuple[bytes, ...]:
    bits = 16384
    signature = b"\x01" * (bits // 8)
    mesh = name("Mesh")
    count = max(1, plan.octets // 5000)
    leaf = certificate(name("stranger.example"), mesh, key=spki(ec_key(2)), signer=signature)
    moduli = (
        certificate(
            mesh, plan.root, key=rsa_spki(bits, (1 << 64) - 59 - 2 * number), signer=signature, ca=True
        )
        for number in range(count)
    )
    return (leaf, *moduli)


def _slow_curves(plan: _Plan) -> tuple[bytes, ...]:
    mesh = name("Mesh")
    slow = [ec.generate_private_key(ec.SECP384R1()) for _ in range(max(2, plan.octets // 900))]
    signer = ec_key(5)
    leaf = certificate(name("stranger.example"), mesh, key=spki(ec_key(2)), signer=signer)
    return (
        leaf,
        *(certificate(mesh, plan.root, key=spki(key), signer=signer, ca=True) for key in slow),
    )


def _mesh(plan: _Plan) -> tuple[bytes, ...]:
    """
    CAs that all certify each other by right signatures: many paths, and a wrong signature only at their ends.
    """
    size = max(2, min(9, plan.octets // 4000))
    names = [name(f"Mesh {n}") for n in range(size)]
    keys = [ec_key(10 + n) for n in range(size)]
    leaf = certificate(name("stranger.example"), names[0], key=spki(ec_key(2)), signer=keys[0])
    made = [
        certificate(names[of], names[by], key=spki(keys[of]), signer=keys[by], ca=True)
        for of in range(size)
        for by in range(size)
        if of != by
    ]
    tops = [
        certificate(names[n], plan.root, key=spki(keys[n]), signer=plan.key, ca=True) for n in range(size)
    ]
    chain: list[bytes] = [leaf]
    for one in (*tops, *made):
        if sum(map(len, chain)) + len(one) > plan.octets:
            break
        chain.append(one)
    return tuple(chain)


def _fresh_keys(plan: _Plan) -> tuple[bytes, ...]:
    def make(number: int, _room: int) -> bytes:
        private = ec.generate_private_key(ec.SECP256R1())
        return certificate(name(f"Fresh {number}"), plan.root, key=spki(private), signer=private, ca=True)

    return plan.beside(make, 450)


def _mappings(plan: _Plan) -> tuple[bytes, ...]:
    """
    CAs that map each policy to many: levels of a graph whose edges are their product.
    """
    depth = max(2, min(8, plan.octets // 8000))
    room = min(plan.octets // depth - _CA_OCTETS, 30 * 1024)
    width = max(1, room // (11 + 26))
    oids = [
        der.encode(der.OBJECT_IDENTIFIER, b"\x2a" + bytes((0x81 + n // 128, n % 128))) for n in range(width)
    ]
    policies = extension(
        _POLICIES, der.encode(der.SEQUENCE, *(der.encode(der.SEQUENCE, oid) for oid in oids))
    )
    side = max(1, int(width**0.5))
    pairs = [der.encode(der.SEQUENCE, a, b) for a in oids[:side] for b in oids[:side]]
    mappings = extension(_MAPPINGS, der.encode(der.SEQUENCE, *pairs))
    chain = []
    above, signer = plan.root, plan.key
    for level in range(depth):
        own = name(f"Level {level}")
        chain.append(
            certificate(
                own,
                above,
                key=spki(ec_key(30 + level)),
                signer=signer,
                extensions=(policies, mappings),
                ca=True,
            )
        )
        above, signer = own, ec_key(30 + level)
    leaf = certificate(
        name("stranger.example"), above, key=spki(ec_key(2)), signer=signer, extensions=(policies,)
    )
    return (leaf, *reversed(chain))


def _many(
    oid: str, item: Callable[[int], bytes], *, broken: bool = False
) -> Callable[[_Plan], tuple[bytes, ...]]:
    """
    Certificates whose one extension is a list as long as it may be.
    """

    def make(plan: _Plan) -> tuple[bytes, ...]:
        each = min(plan.octets - 2 * _CA_OCTETS, 30 * 1024)

        def one(number: int, room: int) -> bytes:
            listed = fill(room, item)
            return certificate(
                name(f"Many {number}"),
                plan.root,
                key=spki(ec_key(3)),
                signer=ec_key(3),
                extensions=(extension(oid, der.encode(der.SEQUENCE, *listed)),),
                ca=True,
                broken=broken,
            )

        return plan.beside(one, each)

    return make


def _many_extensions(plan: _Plan) -> tuple[bytes, ...]:
    def one(number: int, room: int) -> bytes:
        listed = fill(room, lambda n: extension(f"2a83{0x80 + n // 128:02x}{n % 128:02x}", b""))
        return certificate(
            name(f"Many {number}"),
            plan.root,
            key=spki(ec_key(3)),
            signer=ec_key(3),
            extensions=listed,
            ca=True,
        )

    return plan.beside(one, min(plan.octets - 2 * _CA_OCTETS, 30 * 1024))


def _small_rdn(number: int) -> bytes:
    attribute = der.encode(
        der.SEQUENCE, bytes.fromhex("0603550403"), der.encode(der.UTF8_STRING, b"%x" % (number % 16))
    )
    return der.encode(0xA4, der.encode(der.SEQUENCE, *[der.encode(der.SET, attribute)] * 100))


def _oid(number: int) -> bytes:
    return der.encode(
        der.OBJECT_IDENTIFIER,
        b"\x2a" + bytes((0x81 + number // 16384 % 64, 0x80 + number // 128 % 128, number % 128)),
    )


def _long_oid(number: int) -> bytes:
    return der.encode(
        der.OBJECT_IDENTIFIER, b"\x2a" + b"\x01" * 120 + bytes((0x81 + number // 128 % 64, number % 128))
    )


def _point(number: int) -> bytes:
    uri = der.encode(0x86, b"http://%x" % number)
    return der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(0xA0, uri)))


def _access(number: int) -> bytes:
    return der.encode(
        der.SEQUENCE, bytes.fromhex("06082b06010505073001"), der.encode(0x86, b"http://%x" % number)
    )


CHAINS: Mapping[str, Callable[[_Plan], tuple[bytes, ...]]] = MappingProxyType(
    {
        "dns constraints, long names": _dns_constraints,
        "dns constraints, many names": _many_dns_constraints,
        "uri constraints": _uri_constraints,
        "email constraints": _email_constraints,
        "directory constraints": _directory_constraints,
        "address constraints": _address_constraints,
        "combining marks in subjects": _combining,
        "combining marks in names": _combining_names,
        "control characters": _controls,
        "characters that expand": _expanding,
        "exponents as long as the modulus": _exponents,
        "large moduli": _big_moduli,
        "slow curves": _slow_curves,
        "mesh of CAs": _mesh,
        "fresh keys": _fresh_keys,
        "policy mappings": _mappings,
        "many names": _many(_SAN, lambda n: der.encode(0x82, b"%x" % n)),
        "many names, broken": _many(_SAN, lambda n: der.encode(0x82, b"%x" % n), broken=True),
        "many directory names": _many(_SAN, _small_rdn),
        "many usages": _many(_EKU, _oid),
        "long identifiers": _many(_EKU, _long_oid),
        "many policies": _many(_POLICIES, lambda n: der.encode(der.SEQUENCE, _oid(n))),
        "many distribution points": _many(_POINTS, _point),
        "many locations": _many(_ACCESS, _access),
        "many extensions": _many_extensions,
    }
)


def make_chain(kind: str, *, root: bytes, octets: int, key: Any = None) -> tuple[bytes, ...]:
    """
    A chain of one kind.

    Args:
        kind: of `CHAINS`.
        root: the subject of an anchor, DER: every stranger knows it.
        octets: about how long all certificates may be together.
        key: the anchor's private key, where what is sent is to be trusted; else the topmost signature is wrong.

    Returns:
        DER certificates, leaf first.

    """
    return CHAINS[kind](_Plan(root=root, key=ec_key(0) if key is None else key, octets=octets))
