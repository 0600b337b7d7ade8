"""bitcoin.conf by Core's rules: what each snippet means to a node, with the values its documentation gives."""

import pytest

from utxo_index.chains import CHAINS
from utxo_index.errors import NodeAccessError, UsageError
from utxo_index.node.bitcoin_conf import CHAIN_NAMES, read_bitcoin_conf

# (name, bitcoin.conf, chain, option, its value in that chain)
SNIPPETS = [
    ("empty file", "", None, "datadir", None),
    ("plain", "datadir=/a", None, "datadir", "/a"),
    ("spaces and tabs", " \tdatadir \t=  /a b \r", None, "datadir", "/a b"),
    ("comment line", "# datadir=/x\ndatadir=/a", None, "datadir", "/a"),
    ("comment behind the value", "datadir=/a#b", None, "datadir", "/a"),
    ("equals in the value", "datadir=/a=b", None, "datadir", "/a=b"),
    ("first value wins", "datadir=/a\ndatadir=/b", None, "datadir", "/a"),
    ("empty first value wins", "datadir=\ndatadir=/b", None, "datadir", ""),
    ("chain by name", "chain=regtest", "regtest", "datadir", None),
    ("first chain name wins", "chain=signet\nchain=regtest", "signet", "datadir", None),
    ("chain by flag", "testnet=1", "test", "datadir", None),
    ("testnet4 flag", "testnet4=1", "testnet4", "datadir", None),
    ("signet flag", "signet=1", "signet", "datadir", None),
    ("last flag wins", "regtest=1\nregtest=0", None, "datadir", None),
    ("empty flag is true", "regtest=", "regtest", "datadir", None),
    ("a word is false", "regtest=true", None, "datadir", None),
    ("a negated flag", "regtest=1\nnoregtest=1", None, "datadir", None),
    ("a doubly negated flag", "noregtest=0", "regtest", "datadir", None),
    ("chain in a section counts for nothing", "[regtest]\nchain=regtest\nregtest=1", None, "datadir", None),
    ("section", "regtest=1\ndatadir=/a\n[regtest]\ndatadir=/r", "regtest", "datadir", "/r"),
    ("section of another chain", "datadir=/a\n[regtest]\ndatadir=/r", None, "datadir", "/a"),
    ("section main", "datadir=/a\n[main]\ndatadir=/m", None, "datadir", "/m"),
    ("[mainnet] is no section", "datadir=/a\n[mainnet]\ndatadir=/m", None, "datadir", "/a"),
    ("[test], not [testnet]", "testnet=1\n[testnet]\ndatadir=/x\n[test]\ndatadir=/t", "test", "datadir", "/t"),
    ("prefix", "regtest=1\ndatadir=/a\nregtest.datadir=/r", "regtest", "datadir", "/r"),
    # doc/bitcoin-conf.md: "regtest.rpcport is set to 3000"
    (
        "prefix before section",
        "regtest=1\nrpcport=2000\nregtest.rpcport=3000\n[regtest]\nrpcport=4000",
        "regtest",
        "rpcport",
        "3000",
    ),
    ("prefix inside a section belongs to the section", "[main]\nregtest.datadir=/x\ndatadir=/m", None, "datadir", "/m"),
    ("negation wipes what stands before", "blocksdir=/a\nnoblocksdir=1\nblocksdir=/b", None, "blocksdir", "/b"),
    ("negation last", "blocksdir=/a\nnoblocksdir=1", None, "blocksdir", None),
    ("negation in the section", "regtest=1\nblocksdir=/a\n[regtest]\nnoblocksdir=1", "regtest", "blocksdir", None),
    ("negated prefix", "regtest=1\nblocksdir=/a\nregtest.noblocksdir=1", "regtest", "blocksdir", None),
    ("unknown keys are Core's", "bogus=1\nrpcpassword=x#y\n[no]\nsuch=1\n[main]\ndatadir=/a", None, "datadir", "/a"),
    ("Windows line ends", "testnet=1\r\n[test]\r\ndatadir=/t\r\n", "test", "datadir", "/t"),
]


@pytest.mark.parametrize(("text", "chain", "option", "value"), [s[1:] for s in SNIPPETS], ids=[s[0] for s in SNIPPETS])
def test_snippets(tmp_path, text, chain, option, value):
    path = tmp_path / "bitcoin.conf"
    path.write_bytes(text.encode())
    conf = read_bitcoin_conf(path, tmp_path)
    named = conf.chain()
    assert (None if named is None else named.value) == chain
    setting = conf.get(option, chain or "main")
    assert (None if setting is None else setting.value) == value


def test_origin_names_file_and_line(tmp_path):
    path = tmp_path / "bitcoin.conf"
    path.write_text("# first\n\ndatadir=/a\n")
    assert read_bitcoin_conf(path, tmp_path).get("datadir", "main").origin == f"{path} line 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regtest=1\nchain=main", "more than one of chain, regtest"),
        ("regtest=1\nsignet=1", "more than one of chain, regtest"),
        ("chain=mainnet", "unknown chain 'mainnet'"),
        ("-datadir=/a", "line 1 is not option=value"),
        ("testnet=1\nregtest", "line 2 is not option=value"),
        ("includeconf=gone.conf", "there is no file"),
    ],
)
def test_what_core_refuses_is_refused(tmp_path, text, message):
    path = tmp_path / "bitcoin.conf"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_bitcoin_conf(path, tmp_path).chain()


def test_includes(tmp_path):
    """Relative to the data folder; the chain's section first; behind the main file; not from included files."""
    datadir = tmp_path / "data"
    datadir.mkdir()
    path = tmp_path / "elsewhere.conf"
    path.write_text(
        "regtest=1\nincludeconf=general.conf\nuacomment=main\n[regtest]\nincludeconf=chain.conf\n[test]\nincludeconf=gone.conf\n"
    )
    (datadir / "general.conf").write_text("datadir=/general\nuacomment=general\nblocksdir=/general")
    (datadir / "chain.conf").write_text("datadir=/chain\nincludeconf=nested.conf\nsettings=/general")
    (datadir / "nested.conf").write_text("proxy=/nested")
    conf = read_bitcoin_conf(path, datadir)
    values = {name: conf.get(name, "regtest") for name in ("uacomment", "datadir", "blocksdir", "proxy")}
    assert {name: s and s.value for name, s in values.items()} == {
        "uacomment": "main",
        "datadir": "/chain",
        "blocksdir": "/general",
        "proxy": None,
    }


def test_negated_include(tmp_path):
    path = tmp_path / "bitcoin.conf"
    path.write_text("includeconf=gone.conf\nnoincludeconf=1\nincludeconf=kept.conf")
    (tmp_path / "kept.conf").write_text("datadir=/kept")
    assert read_bitcoin_conf(path, tmp_path).get("datadir", "main").value == "/kept"


def test_included_chain_counts_but_its_section_includes_do_not(tmp_path):
    path = tmp_path / "bitcoin.conf"
    path.write_text("includeconf=more.conf\n[regtest]\nincludeconf=gone.conf")
    (tmp_path / "more.conf").write_text("regtest=1")
    assert read_bitcoin_conf(path, tmp_path).chain().value == "regtest"


def test_chain_of_the_command_line_chooses_the_includes(tmp_path):
    path = tmp_path / "bitcoin.conf"
    path.write_text("regtest=1\nsignet=1\n[signet]\nincludeconf=more.conf")
    (tmp_path / "more.conf").write_text("datadir=/s")
    assert read_bitcoin_conf(path, tmp_path, "signet").get("datadir", "signet").value == "/s"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('{"blocksdir": "/dynamic"}', "/dynamic"),
        ('{"blocksdir": ["/x", "/dynamic"]}', "/dynamic"),
        ('{"blocksdir": false}', None),
        ('{"other": {"a": 1}}', "/chain"),
    ],
)
def test_settings_json_beats_the_file(tmp_path, content, value):
    path = tmp_path / "bitcoin.conf"
    path.write_text("blocksdir=/general\n[regtest]\nblocksdir=/chain")
    conf = read_bitcoin_conf(path, tmp_path)
    (tmp_path / "settings.json").write_text(content)
    conf.read_settings_json(tmp_path / "settings.json")
    setting = conf.get("blocksdir", "regtest")
    assert (None if setting is None else setting.value) == value


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_settings_json(tmp_path, content):
    path = tmp_path / "bitcoin.conf"
    path.write_text("")
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UsageError, match="JSON"):
        read_bitcoin_conf(path, tmp_path).read_settings_json(tmp_path / "settings.json")


def test_unreadable_file_names_owner_and_mode(tmp_path, monkeypatch):
    path = tmp_path / "bitcoin.conf"
    path.write_text("")
    path.chmod(0o600)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(NodeAccessError, match=rf"{path} belongs to \S+ \(mode 0600\)"):
        read_bitcoin_conf(path, tmp_path)


def test_chain_names_are_the_chains():
    assert set(CHAIN_NAMES) == set(CHAINS)
