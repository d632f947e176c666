"""The folder of `.env` and of relative paths."""

from pathlib import Path

import pytest

from flows.demo.stores import RUNS
from flows.errors import SettingsError
from flows.settings import Settings, load_settings
from flows.settings.project import describe_origin, project_root

OURS = '[project]\nname = "enterprise-migration"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the notebooks' folder of a checkout with a `.env`; yield the checkout."""
    (tmp_path / "pyproject.toml").write_text(OURS, "utf-8")
    (tmp_path / ".env").write_text("SOURCE_TABLE=crm.firms\n", "utf-8")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def test_a_notebook_has_the_settings_of_its_checkout(project: Path) -> None:
    """Settings, reports and state must be those of commands run in the checkout."""
    settings, demo = load_settings(), Settings.isolated(runs_dir=RUNS)

    assert settings.source_table == "crm.firms"
    assert settings.runs_dir == project / "data" / "runs"
    assert settings.state_url.get_secret_value() == (
        f"sqlite:///{project}/data/runs/state.db"
    )
    assert demo.runs_dir == project / RUNS
    assert str(project / ".env") in describe_origin()


def test_a_checkout_is_the_project_without_a_dotenv_too(project: Path) -> None:
    """Without a `.env`, runs must not be stored in the notebooks' folder."""
    (project / ".env").unlink()

    assert load_settings().runs_dir == project / "data" / "runs"
    assert "no .env" in describe_origin()


def test_a_folder_below_a_dotenv_is_of_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the package is installed, `.env` alone determines the folder."""
    (tmp_path / ".env").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")

    assert project_root() == tmp_path


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
def test_the_dotenv_above_another_project_is_not_read(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That file belongs to something else, and may name another store."""
    (tmp_path / ".env").write_text("SOURCE_TABLE=crm.firms\n", "utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / mark).touch()
    monkeypatch.chdir(tmp_path / "other")

    assert load_settings().source_table == "public.enterprises"
    assert load_settings().runs_dir == Path("data/runs")


def test_the_nearest_dotenv_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file beside a notebook must be read, and have its own folder of runs."""
    Path(".env").write_text("SOURCE_TABLE=a.b\n", "utf-8")
    monkeypatch.setenv("STATE_URL", "sqlite:////elsewhere/state.db")

    settings = load_settings()

    assert settings.source_table == "a.b"
    assert settings.runs_dir.absolute() == project / "notebooks" / "data" / "runs"
    assert settings.state_url.get_secret_value() == "sqlite:////elsewhere/state.db"


def test_the_home_folder_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in `.env`, which no shell expands, is the home folder in every path."""
    monkeypatch.setenv("RUNS_DIR", "~/runs")
    monkeypatch.setenv("STATE_URL", "sqlite:///~/runs/state.db")

    settings = load_settings()

    assert settings.runs_dir == Path.home() / "runs"
    state = f"sqlite:///{Path.home()}/runs/state.db"
    assert settings.state_url.get_secret_value() == state


def test_a_home_folder_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistyped user must cause neither a traceback nor a folder of that name."""
    monkeypatch.setenv("RUNS_DIR", "~nobody-of-this-name/runs")

    with pytest.raises(
        SettingsError, match=r"RUNS_DIR is not valid: .* does not exist"
    ):
        load_settings()


def test_a_dotenv_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It may name the real stores: no command may run without reading it."""
    (tmp_path / ".env").mkdir()

    with pytest.raises(SettingsError, match=r"\.env cannot be read: Is a directory"):
        load_settings()
