"""Where the block files are: Core's places on three systems, bitcoin.conf, and what people type."""

from pathlib import Path

import pytest

from utxo_index.errors import NodeAccessError, UsageError
from utxo_index.node.folder import default_datadir, resolve_node


def put_blocks(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blk00000.dat").write_bytes(b"")
    return folder


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def resolve(home: Path, **options):
    """As on Linux with this HOME."""
    return resolve_node(platform="linux", env={"HOME": str(home)}, **options)


def test_default_datadir_of_each_system(tmp_path):
    home = str(tmp_path)
    assert default_datadir("linux", {"HOME": home}) == tmp_path / ".bitcoin"
    assert default_datadir("freebsd14", {"HOME": home}) == tmp_path / ".bitcoin"
    assert default_datadir("linux", {}) == Path("/.bitcoin")
    assert default_datadir("darwin", {"HOME": home}) == tmp_path / "Library" / "Application Support" / "Bitcoin"
    windows = {"APPDATA": str(tmp_path / "Roaming"), "LOCALAPPDATA": str(tmp_path / "Local")}
    assert default_datadir("win32", windows) == tmp_path / "Local" / "Bitcoin"
    (tmp_path / "Roaming" / "Bitcoin").mkdir(parents=True)
    assert default_datadir("win32", windows) == tmp_path / "Roaming" / "Bitcoin"


@pytest.mark.parametrize(
    ("platform", "place"), [("linux", ".bitcoin"), ("darwin", "Library/Application Support/Bitcoin")]
)
def test_no_argument_finds_the_node(home, platform, place):
    blocks = put_blocks(home / place / "blocks")
    node = resolve_node(platform=platform, env={"HOME": str(home)})
    assert node.blocks_folder == blocks
    assert node.datadir == home / place
    assert node.chain_name is None
    assert node.origin == f"block files in {blocks} (default place), chain told by the files"


def test_no_argument_finds_the_old_windows_node(tmp_path):
    blocks = put_blocks(tmp_path / "Roaming" / "Bitcoin" / "blocks")
    env = {"APPDATA": str(tmp_path / "Roaming"), "LOCALAPPDATA": str(tmp_path / "Local")}
    assert resolve_node(platform="win32", env=env).blocks_folder == blocks


def test_no_node_is_exit_4(home):
    with pytest.raises(NodeAccessError, match="found no Bitcoin Core node") as raised:
        resolve(home)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("chain", "folder"), [("main", ""), ("test", "testnet3"), ("testnet4", "testnet4"), ("regtest", "regtest")]
)
def test_chain_option_chooses_the_folder(home, chain, folder):
    for name in ("", "testnet3", "testnet4", "signet", "regtest"):
        put_blocks(home / ".bitcoin" / name / "blocks")
    node = resolve(home, chain=chain)
    assert node.blocks_folder == home / ".bitcoin" / folder / "blocks"
    assert node.chain_name == chain
    assert node.origin.endswith(f"(default place), chain {chain} (--chain)")


def test_conf_moves_the_datadir_for_its_chain(home, tmp_path):
    blocks = put_blocks(tmp_path / "r" / "regtest" / "blocks")
    conf = home / ".bitcoin" / "bitcoin.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"regtest=1\ndatadir=/nowhere\n[regtest]\ndatadir={tmp_path / 'r'}\n")
    node = resolve(home)
    assert (node.blocks_folder, node.chain_name, node.datadir) == (blocks, "regtest", tmp_path / "r")
    assert node.origin == f"block files in {blocks} ({conf} line 4), chain regtest ({conf} line 1)"


def test_chain_option_beats_conf(home):
    put_blocks(home / ".bitcoin" / "regtest" / "blocks")
    blocks = put_blocks(home / ".bitcoin" / "signet" / "blocks")
    (home / ".bitcoin" / "bitcoin.conf").write_text("regtest=1\n")
    assert resolve(home, chain="signet").blocks_folder == blocks


def test_datadir_option_beats_conf(home, tmp_path):
    blocks = put_blocks(tmp_path / "d" / "regtest" / "blocks")
    (tmp_path / "d" / "bitcoin.conf").write_text("regtest=1\ndatadir=/nowhere\n")
    assert resolve(home, datadir=tmp_path / "d").blocks_folder == blocks


def test_conf_blocksdir_keeps_cores_meaning(home, tmp_path):
    put_blocks(home / ".bitcoin" / "regtest" / "blocks")
    blocks = put_blocks(tmp_path / "big" / "regtest" / "blocks")
    (home / ".bitcoin" / "bitcoin.conf").write_text(f"regtest=1\nblocksdir={tmp_path / 'big'}\n")
    node = resolve(home)
    assert (node.blocks_folder, node.datadir) == (blocks, home / ".bitcoin")


def test_settings_json_of_the_chain(home, tmp_path):
    put_blocks(home / ".bitcoin" / "regtest" / "blocks")
    blocks = put_blocks(tmp_path / "big" / "regtest" / "blocks")
    (home / ".bitcoin" / "bitcoin.conf").write_text("regtest=1\n")
    (home / ".bitcoin" / "regtest" / "settings.json").write_text(f'{{"blocksdir": "{tmp_path / "big"}"}}')
    (home / ".bitcoin" / "settings.json").write_text('{"blocksdir": "/nowhere"}')
    assert resolve(home).blocks_folder == blocks


def test_conf_option(home, tmp_path):
    blocks = put_blocks(tmp_path / "d" / "blocks")
    (tmp_path / "my.conf").write_text(f"datadir={tmp_path / 'd'}\n")
    assert resolve(home, conf=tmp_path / "my.conf").blocks_folder == blocks
    with pytest.raises(UsageError, match="there is no such file"):
        resolve(home, conf=tmp_path / "gone.conf")


def test_blocksdir_option_is_the_folder_itself(home, tmp_path):
    (home / ".bitcoin").mkdir(parents=True)
    (home / ".bitcoin" / "bitcoin.conf").write_text("this is not read")
    blocks = put_blocks(tmp_path / "anywhere")
    node = resolve(home, blocksdir=blocks)
    assert (node.datadir, node.blocks_folder, node.chain_name) == (None, blocks, None)
    assert resolve(home, blocksdir=blocks, chain="regtest").chain_name == "regtest"


def test_what_people_call_the_datadir(home, tmp_path):
    """A network's folder, the blocks folder, and a node that is on one test network only."""
    blocks = put_blocks(tmp_path / "d" / "regtest" / "blocks")
    for given in (tmp_path / "d", tmp_path / "d" / "regtest", blocks):
        assert resolve(home, datadir=given).blocks_folder == blocks
        assert resolve(home, datadir=given, chain="regtest").blocks_folder == blocks
    node = resolve(home, datadir=tmp_path / "d")
    assert node.chain_name == "regtest"
    assert node.origin == f"block files in {blocks} (--datadir, with regtest only), chain regtest (the only one there)"


def test_two_test_networks_want_a_choice(home, tmp_path):
    put_blocks(tmp_path / "regtest" / "blocks")
    put_blocks(tmp_path / "testnet4" / "blocks")
    with pytest.raises(UsageError, match=r"has blocks of testnet4, regtest, none of main\. Say which one with --chain"):
        resolve(home, datadir=tmp_path)


def test_named_chain_is_never_swapped_for_another(home, tmp_path):
    put_blocks(tmp_path / "regtest" / "blocks")
    with pytest.raises(UsageError, match=r"signet/blocks: no blk\*\.dat files"):
        resolve(home, datadir=tmp_path, chain="signet")


@pytest.mark.parametrize("option", ["datadir", "blocksdir"])
def test_missing_folder_is_exit_2(home, tmp_path, option):
    with pytest.raises(UsageError, match="there is no such folder") as raised:
        resolve(home, **{option: tmp_path / "gone"})
    assert raised.value.exit_code == 2


def test_blocksdir_given_as_datadir_says_so(home, tmp_path):
    put_blocks(tmp_path / "blocks")
    with pytest.raises(UsageError, match=f"Give --blocksdir {tmp_path}/blocks, or --datadir {tmp_path}"):
        resolve(home, blocksdir=tmp_path)


def test_relative_paths_in_conf_are_refused(home):
    (home / ".bitcoin").mkdir(parents=True)
    (home / ".bitcoin" / "bitcoin.conf").write_text("datadir=here\n")
    with pytest.raises(UsageError, match="relative to the folder that the node was started in"):
        resolve(home)


def test_magic(home, tmp_path):
    blocks = put_blocks(tmp_path / "signet" / "blocks")
    node = resolve(home, datadir=tmp_path, magic="DEADBEEF")
    assert (node.blocks_folder, node.chain_name, node.magic) == (blocks, "signet", bytes.fromhex("deadbeef"))
    known = resolve(home, blocksdir=blocks, magic="fabfb5da")
    assert (known.chain_name, known.magic) == ("regtest", None)
    with pytest.raises(UsageError, match="8 hex digits"):
        resolve(home, blocksdir=blocks, magic="beef")
    with pytest.raises(UsageError, match="is of regtest, --chain says main"):
        resolve(home, blocksdir=blocks, magic="fabfb5da", chain="main")
    with pytest.raises(UsageError, match="is of a custom signet, --chain says main"):
        resolve(home, blocksdir=blocks, magic="deadbeef", chain="main")


@pytest.mark.parametrize("closed", ["scandir", "open"])
def test_closed_files_name_owner_mode_and_remedy(home, tmp_path, monkeypatch, closed):
    """Core's umask closes its files to everybody else. (Simulated: root may read all.)"""
    blocks = put_blocks(tmp_path / "blocks")
    (blocks / "blk00000.dat").chmod(0o600)
    blocks.chmod(0o700)
    path, mode = (blocks, "0700") if closed == "scandir" else (blocks / "blk00000.dat", "0600")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir" if closed == "scandir" else "builtins.open", refuse)
    with pytest.raises(
        NodeAccessError, match=rf"{path}: may not be read: {path} belongs to (\S+) \(mode {mode}\)"
    ) as raised:
        resolve(home, blocksdir=blocks)
    assert raised.value.exit_code == 4
    assert "Run utxo-index as" in str(raised.value)
