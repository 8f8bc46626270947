"""Examples of QUIC sessions, sealed packets; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

_VERSION_1_0 = bytes.fromhex(
    "cf0000000108d1d2d3d4d5d6d7d804c1c2c3c400408b35a3f4d0165880cfa593b3ad856c0f1a3b07384544d2c8d6e8cb"
    "8111632d1c056f0ec0a81470c4850c6e0f81127669302404fcad23012674dfae2c4feecdd67acbe84da7e8dc2e539f74"
    "6725d285d7a74ff7dd22d055d872678b7c8bd394d570fc9b065c09a363465ff1580d2d9ccde17f57589b5f36761796bb"
    "ae83b1fec40ab092dedd1d261e688dcd27"
)
_VERSION_1_1 = bytes.fromhex(
    "c80000000104c1c2c3c406e1e2e3e4e5e6004057d246275f038417777a0c93a738e983bf042cf8a560c481edcc17f0e9"
    "323cdc55c5d56877841f2068ec48b4dba8697f29877607564fcaa2591da81fb14c16abe4b8005644745535d95ca24097"
    "c7211109eca5ad9d1a49e5e00000000104c1c2c3c406e1e2e3e4e5e6401e000000000000000000000000000000000000"
    "000000000000000000000000"
)
_VERSION_1_2 = bytes.fromhex(
    "41e1e2e3e4e5e6000000000000000000000000000000000000000000000000"
)
_VERSION_2_0 = bytes.fromhex(
    "dc6b3343cf08d1d2d3d4d5d6d7d804c1c2c3c400404954ffcd3f4102e41f5ab0e8db7f189773ac1ea8a0cc4c856ea78c"
    "eaeb6e52edddb54429a4d1022dc36a98f1a2c87b53987aa28ffed2ee1d1a54e051a5bdda924cfa8b60b34c94b3a2a2"
)
_VERSION_2_1 = bytes.fromhex(
    "d26b3343cf08d1d2d3d4d5d6d7d804c1c2c3c40040651511f11ec35079478d88ae6d689e0c9cbf1f9c763d603997c6f4"
    "89ea212cb2178edf34215590007c5d56315b258f5aab5995633a4c871ad6a853ed251ba0fd58da3c0feb831c97bba445"
    "661c5916a2c67bb74d587a9ffc34382fc9a34b4ca29f8bb72e28f0e06b3343cf08d1d2d3d4d5d6d7d804c1c2c3c4401e"
    "000000000000000000000000000000000000000000000000000000000000"
)
_VERSION_2_2 = bytes.fromhex(
    "d36b3343cf04c1c2c3c406e1e2e3e4e5e6004052f6b0add7ba670e6176bc45b0678e7dd1c33a76d48acd68c7fc724c68"
    "4418d59950b0b9f41f47dd7e90cdbd3986c0bc2e6b556cc2c853258e77b529461cdba188a155bf2a091896b67ba793ba"
    "60ccafa51b4f"
)
_RETRY_0 = bytes.fromhex(
    "c60000000108d1d2d3d4d5d6d7d804c1c2c3c4004088eda3c8a70434f0a3afbed3c2e96e1c1e3b013c4f25ebc3d0e5c1"
    "8e0372220f3a7a1bd5b3096ae6990371140112074a353386edad234c22b51d7de840e8cde11eb3894fd487b90132f31d"
    "6233d588deae4693e32cd545cd60769f749def8ccf68e4831b7b16b16246ccf03e3f28984db37f57578f9efab5d30287"
    "42d35f0e8535819e7719e8099635"
)
_RETRY_1 = bytes.fromhex(
    "f00000000104c1c2c3c405f1f2f3f4f5746f6b656e206f66207468652073657276657236645dafbea3d76e1dd664ef44"
    "7cdf0f"
)
_RETRY_2 = bytes.fromhex(
    "cd0000000105f1f2f3f4f504c1c2c3c413746f6b656e206f662074686520736572766572408851ea0d28732273ad2269"
    "e9bec850ad1ccc0c4b1e795da73990f271fdc0c5fc9a24160013a1b36a10a8a4fd8880d68205fb12fc03ff16f83a3d14"
    "3131b4458b06e73ac8507188818247818ccd6c2bf03e8f81d7f153f7c68479a2f6aaeaa331a513ac9f4dcf5dc7e73f30"
    "06a0f498e395daad1c818586d1cbd13cf34a7af6bc0327b8238875ffac7d"
)
_RETRY_3 = bytes.fromhex(
    "c50000000104c1c2c3c406e1e2e3e4e5e600401557e5308834c8f10b77ae50287189676b0572a1ca5e"
)

EXAMPLES = (
    SessionExample(
        "version 1",
        ((0, _VERSION_1_0), (1, _VERSION_1_1), (0, _VERSION_1_2)),
        (
            {
                "version": 1,
                "first_version": 1,
                "dcid": "d1d2d3d4d5d6d7d8",
                "scid": "c1c2c3c4",
                "server_scid": "e1e2e3e4e5e6",
                "initial_packets": 2,
                "sni": "example.com",
                "alpn": ["h3"],
                "cipher": "TLS_AES_128_GCM_SHA256",
                "cipher_suite": 0x1301,
                "client_ciphers": [0x1301, 0x1302],
                "client_extensions": [0, 16, 10, 43, 0x39],
                "server_extensions": [43, 51],
                "client_random": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                "server_random": "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
                "transport_parameters": [1, 4, 15],
                "max_idle_timeout": 30000,
                "initial_max_data": 1 << 20,
                "available_versions": [],
                "ja3_str": "771,4865-4866,0-16-10-43-57,29,",
                "ja4": "q13d0205h3_62ed6f6ca7ad_6e5aa5b2101a",
                "retry": False,
                "zero_rtt": False,
                "is_resumption": False,
                "closed": False,
            },
        ),
        transport=17,
    ),
    SessionExample(
        "version 2, a hello in two datagrams in the wrong order",
        ((0, _VERSION_2_0), (0, _VERSION_2_1), (1, _VERSION_2_2)),
        (
            {
                "version": 0x6B3343CF,
                "sni": "v2.example.org",
                "available_versions": [0x6B3343CF, 1],
                "cipher_suite": 0x1301,
                "initial_packets": 3,
                "zero_rtt": True,
            },
        ),
        transport=17,
    ),
    SessionExample(
        "asked for its address, then refused",
        ((0, _RETRY_0), (1, _RETRY_1), (0, _RETRY_2), (1, _RETRY_3)),
        (
            {
                "dcid": "d1d2d3d4d5d6d7d8",
                "server_scid": "e1e2e3e4e5e6",
                "retry": True,
                "token_len": 19,
                "sni": "example.com",
                "cipher": None,
                "closed": True,
                "error_code": 11,
            },
        ),
        transport=17,
    ),
)
