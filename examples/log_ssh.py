"""SSH: who speaks with which software, what they agree on, and the fingerprints; as JSON lines.

    retina-jit run examples/log_ssh.py -r retina_jit/samples/ssh.pcap
"""

import json

from retina_jit import FiveTuple, SshHandshake, subscribe


def log(why: str, ssh: SshHandshake, who: FiveTuple) -> None:
    row = {"why": why, "server": f"{who.resp_addr}:{who.resp_port}"}
    row |= {"client_software": ssh.software_version_ctos, "server_software": ssh.software_version_stoc}
    row |= {"kex": ssh.kex_alg, "cipher": ssh.cipher_alg_ctos, "host_key": ssh.host_key_fingerprint}
    print(json.dumps(row | {"hassh": ssh.hassh, "hassh_server": ssh.hassh_server, "strict": ssh.strict_kex}))


@subscribe("ssh")
def any_ssh(ssh: SshHandshake, who: FiveTuple) -> None:
    log("ssh", ssh, who)


@subscribe("ssh and not ssh.strict_kex")
def without_strict_key_exchange(ssh: SshHandshake, who: FiveTuple) -> None:
    log("open to Terrapin", ssh, who)


@subscribe("ssh.encryption_algs_stoc = 'aes128-cbc' or ssh.protocol_version_stoc = |31 2e 35|")
def outdated(ssh: SshHandshake, who: FiveTuple) -> None:
    log("outdated", ssh, who)
