"""The playbook init: what it makes of projects of all kinds, also of hostile ones; what it writes, and what it leaves alone."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps
from ansible_collections.vivarium.server.plugins.filter.wiring import wiring
from ansible_collections.vivarium.server.plugins.plugin_utils._init import answers, ci, plan, project, write
from ansible_collections.vivarium.server.plugins.plugin_utils._init.project import InitError
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import Tree

ROOT = Path(__file__).resolve().parents[2]
GIVEN = dict.fromkeys(
    ("project", "domain", "host", "email", "user", "name", "inventory", "ci", "application", "settings"), ""
)
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "{0}")\n'
ASGI = MANAGE + "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
SQLITE = 'SECRET_KEY = "django-insecure-x"\nDATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3"}}\n'
FASTAPI = 'from fastapi import FastAPI\napp = FastAPI()\n@app.get("/health")\nasync def health():\n    return {}\n'
UNREADABLE = "raise SystemExit('this was run')\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Neither the tester's configuration of git nor the repository that this lies in has a say."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(
        "[user]\nname = A\nemail = ada@example.com\n[init]\ndefaultBranch = main\n"
    )


def make(place, **files):
    """A project of files; a double underscore in a name stands for a slash, and the last single one for the dot."""
    for name, text in files.items():
        path = place / re.sub(r"_(?=[a-z]+$)", ".", name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def start(place, **more):
    """What `django-admin startproject shop` writes, as far as it matters, and more."""
    files = {
        "manage_py": MANAGE.format("shop.settings"),
        "shop__asgi_py": ASGI.format("shop.settings"),
        "shop__settings_py": SQLITE,
        "requirements_txt": "Django>=5.2\npsycopg[binary,pool]\n",
    }
    return make(place, **{**files, **more})


def git(place, *words):
    return subprocess.run(["git", *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


class Written:
    """An inventory, as Ansible reads it."""

    def __init__(self, planned, directory):
        self.plan, self.directory = planned, directory
        self.hosts = yaml.safe_load((directory / "hosts.yml").read_text())["all"]
        self.variables = yaml.safe_load((directory / "group_vars/all/main.yml").read_text())
        (self.app,) = self.variables["asgi_apps"]
        vault = directory / "group_vars/all/vault.yml"
        self.secrets = next(iter(yaml.safe_load(vault.read_text()).values())) if vault.exists() else {}
        self.notes = "\n".join(planned.notes)

    def lines(self):
        return sum(len(path.read_text().splitlines()) for path in self.directory.rglob("*.yml"))

    def check(self):
        """The checks that come first in a run of site."""
        groups = {name: list(group["hosts"]) for name, group in self.hosts["children"].items()}
        (host,) = self.hosts["hosts"]
        assert (
            self.app["secrets"] == f"{{{{ vault_{self.app['name']}_secrets }}}}"
            if self.secrets
            else "secrets" not in self.app
        )
        apps = [{**self.app, "secrets": self.secrets}]
        asgi_apps(apps)
        derived = wiring(apps, host, groups, {host: {**self.variables, "asgi_apps": apps}})
        assert [site["name"] for site in derived["nginx_sites"]] == [self.app["name"]]
        assert bool(derived["postgresql_databases"]) == ("db_servers" in groups)
        assert self.lines() <= 25
        return self


@pytest.fixture
def init(tmp_path):
    """Run it in a directory beside the project, as the action does."""

    def run(place, here=None, ansible=None, check=True, **said):
        here = here or tmp_path / "servers"
        here.mkdir(exist_ok=True)
        given = {
            **GIVEN,
            "project": str(place),
            "domain": "shop.example.com",
            "host": "203.0.113.5",
            "email": "a@example.com",
            **said,
        }
        complete = answers.complete(given, nobody, lambda: "")
        found = project.read(complete.project, complete.application, complete.settings)
        planned = plan.make(complete, found, here, ansible or plan.Ansible())
        write.write(planned.files)
        written = Written(planned, here / complete.inventory)
        return written.check() if check else written

    return run


def nobody(question):
    raise answers.NobodyThereError


def test_what_startproject_writes(init, tmp_path):
    written = init(start(tmp_path / "shop"))
    assert written.app == {
        "name": "shop",
        "source": {"path": "../../../shop"},
        "application": "shop.asgi:application",
        "settings": "shop.settings",
        "domains": ["shop.example.com"],
        "env": {"ADMINS": "a@example.com"},
        "secrets": "{{ vault_shop_secrets }}",
    }
    assert written.hosts["hosts"] == {"server1": {"ansible_host": "203.0.113.5", "ansible_user": "root"}}
    assert written.variables["certificates_acme_email"] == "a@example.com"
    assert list(written.secrets) == ["SECRET_KEY", "DATABASE_PASSWORD"]
    assert len(written.secrets["SECRET_KEY"]) >= 50 and len(set(written.secrets["SECRET_KEY"])) > 20
    assert [command for command, _meaning in written.plan.commands] == [
        f"ansible-playbook vivarium.server.{playbook} -i inventories/prod" for playbook in ("site", "status", "deploy")
    ]


def test_a_settings_package_of_production_celery_channels_and_redis(init, tmp_path):
    shop = make(
        tmp_path / "shop",
        manage_py=MANAGE.format("config.settings.local"),
        config__asgi_py=ASGI.format("config.settings.local"),
        config____init___py="",
        config__settings____init___py="",
        config__settings__base_py='import os\nSECRET_KEY = os.environ["DJANGO_SECRET_KEY"]\nMEDIA_ROOT = "x"\n'
        'ROOT_URLCONF = "config.urls"\nPAY = os.environ["STRIPE_SECRET_KEY"]\n'
        'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["POSTGRES_HOST"],'
        ' "PASSWORD": os.environ["POSTGRES_PASSWORD"]}}\n',
        config__settings__local_py="from .base import *\n",
        config__settings__production_py="from .base import *\nCHANNEL_LAYERS = {}\n",
        config__urls_py='urlpatterns = [path("healthz/", x), path("status/", include(y))]\n',
        config__celery_py='from celery import Celery\napp = Celery("shop")\napp.conf.beat_schedule = {}\n',
        requirements__base_txt="Django\npsycopg[binary]\nchannels_redis\nchannels\n",
        requirements__production_txt="-r base.txt\ncelery[redis]>=5\n",
        package_json='{"scripts": {"build": "vite build"}}',
    )
    written = init(shop)
    app = written.app
    assert (app["application"], app["settings"]) == ("config.asgi:application", "config.settings.production")
    assert app["install"] == {"requirements": ["requirements/production.txt"]}
    assert app["health_path"] == "/healthz/"
    assert app["database"] == {"variables": {"POSTGRES_HOST": "host", "POSTGRES_PASSWORD": "password"}}
    assert app["processes"]["worker"]["command"] == "celery -A config worker --loglevel INFO"
    assert app["processes"]["beat"] == {
        "command": "celery -A config beat --loglevel INFO --schedule /var/lib/asgi-shop/beat",
        "overlap": False,
    }
    # The one key, by each of its names; a key of somebody else's service cannot be made up.
    assert written.secrets["SECRET_KEY"] == written.secrets["DJANGO_SECRET_KEY"]
    assert "STRIPE_SECRET_KEY" in written.notes and "STRIPE_SECRET_KEY" not in written.secrets
    for word in ("Redis", "npm run build", "scheduler", "Uploads"):
        assert word in written.notes
    assert "Channels" in "".join(written.plan.found)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"poetry_lock": '[[package]]\nname = "django"\n[[package]]\nname = "psycopg"\n', "requirements_txt": None},
            "poetry export",
        ),
        ({"requirements_txt": "Django\nmysqlclient\n"}, "MySQL"),
        (
            {"requirements_txt": "Django\n", "shop__settings_py": 'E = "django.db.backends.postgresql"\n'},
            "no driver for PostgreSQL",
        ),
        ({"requirements_txt": "Django\n"}, "SQLite"),
        ({"requirements_txt": "Django\npsycopg\nrq\n"}, "rq: `processes"),
    ],
)
def test_what_stands_in_the_way_is_said(init, tmp_path, files, said):
    shop = start(tmp_path / "shop", **{name: text or "" for name, text in files.items()})
    for name in [name for name, text in files.items() if text is None]:
        (shop / name.replace("_", ".")).unlink()
    written = init(shop)
    assert said in written.notes
    assert ("db_servers" in written.hosts["children"]) == (said not in ("MySQL", "SQLite"))


def test_a_django_project_without_packages_is_no_guess(init, tmp_path):
    shop = start(tmp_path / "shop")
    (shop / "requirements.txt").unlink()
    with pytest.raises(
        InitError, match=r"nothing says which packages .*/shop/requirements\.txt .*psycopg\[binary,pool\]"
    ):
        init(shop)
    # Another application may need none.
    bare = make(tmp_path / "bare", main_py="async def app(scope, receive, send):\n    pass\n")
    assert init(bare, inventory="inventories/bare").notes.startswith("Nothing says which packages")


def test_a_python_that_debian_has_not_is_brought(init, tmp_path):
    pyproject = '[project]\nname = "shop"\nrequires-python = ">=3.14"\ndependencies = ["django", "psycopg"]\n'
    written = init(start(tmp_path / "shop", pyproject_toml=pyproject))
    assert written.variables["python_versions"] == ["3.14"] and written.app["python"] == "python3.14"
    again = init(
        start(tmp_path / "blog", pyproject_toml=pyproject.replace("3.14", "3.12")), inventory="inventories/blog"
    )
    assert "python" not in again.app


def test_fastapi_in_one_file(init, tmp_path):
    written = init(make(tmp_path / "shop", main_py=FASTAPI, requirements_txt="fastapi\n"))
    assert (written.app["framework"], written.app["application"]) == ("none", "main:app")
    assert written.app["health_path"] == "/health"
    assert "db_servers" not in written.hosts["children"] and not written.secrets
    assert not any(file.path.endswith("vault.yml") for file in written.plan.files)


def test_an_application_in_src_that_a_function_makes(init, tmp_path):
    shop = make(
        tmp_path / "shop",
        src__shop____init___py="",
        src__shop__web_py="from starlette.applications import Starlette\ndef create_app():\n    return Starlette()\n",
        requirements_txt="starlette\n",
    )
    app = init(shop).app
    assert app["application"] == "shop.web:create_app()" and app["env"] == {"PYTHONPATH": "src"}


def test_a_repository_with_the_project_in_a_directory(init):
    written = init(ROOT / "examples/apps/fastapi/notes")
    assert written.app["source"]["subdirectory"] == "backend"
    assert (written.app["name"], written.app["application"]) == ("notes", "app.main:app")
    assert written.app["database"] == {"variables": {"DATABASE_URL": "postgresql+asyncpg"}}
    assert written.app["hooks"] == {"before_migrate": ["alembic upgrade head"]}
    assert written.app["health_path"] == "/health"


def test_a_member_of_a_workspace(init, tmp_path):
    """Its packages are locked at the top, where there is no project."""
    shop = make(
        tmp_path / "a-shop-with-a-name-that-is-long",
        pyproject_toml='[tool.uv.workspace]\nmembers = ["backend"]\n',
        uv_lock='[[package]]\nname = "fastapi"\n[[package]]\nname = "psycopg"\n[[package]]\nname = "sqlmodel"\n',
        backend__pyproject_toml='[project]\nname = "app"\ndependencies = ["fastapi"]\n',
        backend__app____init___py="",
        backend__app__main_py=FASTAPI,
        backend__app__config_py="class S(BaseSettings):\n    SECRET_KEY: str\n    PROJECT_NAME: str\n"
        "    SQLALCHEMY_DATABASE_URI: str\n",
    )
    written = init(shop)
    assert written.app["source"]["subdirectory"] == "backend" and written.app["application"] == "app.main:app"
    assert written.app["name"] == "a_shop_with_a_name_that"
    assert written.app["database"] == {"variables": {"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg"}}
    assert list(written.secrets) == ["SECRET_KEY", "DATABASE_PASSWORD"]
    assert "PROJECT_NAME" in written.notes and "packages from uv.lock" in written.plan.found


def test_a_directory_of_a_repository_whose_lock_lies_further_up(init, tmp_path):
    top = make(
        tmp_path / "all",
        uv_lock='[[package]]\nname = "fastapi"\n',
        pyproject_toml='[tool.uv.workspace]\nmembers = ["shop"]\n',
    )
    git(top, "init", "--quiet")
    shop = make(top / "shop", main_py=FASTAPI, pyproject_toml='[project]\nname = "shop"\n')
    written = init(shop)
    assert written.app["source"] == {"path": "../../../all", "subdirectory": "shop"}
    assert (written.app["name"], written.app["application"]) == ("shop", "main:app")


@pytest.mark.parametrize(
    ("admins", "env"),
    [("[]", True), ("['a@example.com']", False), ("env.list('ADMINS', default=[])", True), ("people()", False)],
)
def test_somebody_hears_of_errors(init, tmp_path, admins, env):
    written = init(start(tmp_path / "shop", shop__settings_py=f"{SQLITE}ADMINS = {admins}\n"))
    assert ("env" in written.app) == env


def test_what_settings_ask_for_only_in_a_case_need_not_be_there(init, tmp_path):
    settings = (
        'if "DJANGO_SECRET_KEY" in os.environ:\n    SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]\n'
        'if os.getenv("S3"):\n    BUCKET = os.environ["BUCKET"]\nREGION = env("REGION", default="")\nTOKEN = env("TOKEN")\n'
    )
    written = init(start(tmp_path / "shop", shop__settings_py=SQLITE + settings))
    assert written.secrets["DJANGO_SECRET_KEY"] == written.secrets["SECRET_KEY"]
    assert "TOKEN" in written.notes and not [name for name in ("BUCKET", "REGION") if name in written.notes]


def test_the_other_examples(init):
    herbarium = init(ROOT / "examples/herbarium").app
    assert (herbarium["settings"], herbarium["health_path"]) == ("herbarium.settings", "/health/")
    books = init(ROOT / "examples/apps/litestar/books", inventory="inventories/books").app
    assert books["application"] == "app:app"


def test_what_is_pushed_is_deployed_as_it_is_pushed(init, tmp_path):
    """Where others can fetch it; not with a token in its address, and not from a directory of this machine."""
    shop = start(tmp_path / "shop")
    git(shop, "init", "--quiet")
    git(shop, "add", "--all")
    git(shop, "commit", "--quiet", "--message", "x")
    git(shop, "update-ref", "refs/remotes/origin/main", "HEAD")
    for number, (url, source) in enumerate(
        {
            "https://git.example.com/shop.git": {"git": "https://git.example.com/shop.git", "version": "main"},
            "git@gitlab.example.com:shop.git": {"git": "git@gitlab.example.com:shop.git", "version": "main"},
            "https://user:t0ken@git.example.com/shop.git": {"path": "../../../shop"},
            "/srv/git/shop.git": {"path": "../../../shop"},
        }.items()
    ):
        git(shop, "config", "remote.origin.url", url)
        written = init(shop, inventory=f"inventories/i{number}", ci="" if number == 1 else "none")
        assert written.app["source"] == source
        assert "t0ken" not in "".join(file.text for file in written.plan.files) + repr(written.plan)
    workflow = yaml.safe_load((tmp_path / "servers/.gitlab-ci.yml").read_text())
    assert "$VERSION" in "".join(workflow["deploy"]["script"]) and not (tmp_path / "servers/.github").exists()
    (shop / "new.py").write_text("")
    git(shop, "add", "--all")
    git(shop, "commit", "--quiet", "--message", "not pushed")
    assert "path" in init(shop, inventory="inventories/last").app["source"]


def test_an_inventory_in_the_project_itself(init, tmp_path):
    """CI has the code then; what it deploys is what it has checked out, and the inventory is no part of it."""
    shop = start(tmp_path / "shop")
    git(shop, "init", "--quiet")
    written = init(shop, here=shop)
    assert written.app["source"] == {"path": "../..", "exclude": ["inventories"]}
    workflow = yaml.safe_load((shop / ".github/workflows/deploy.yml").read_text())
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert "asgi_version" not in (shop / ".github/workflows/deploy.yml").read_text()


@pytest.mark.parametrize("which", ["github", "gitlab"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("directory", ["", "deploy"])
def test_a_workflow_is_yaml_and_its_commands_are_shell(which, inside, directory):
    text = ci.text(which, app="shop", inventory="inventories/prod", inside=inside, directory=directory)
    job = yaml.safe_load(text)["jobs"]["deploy"] if which == "github" else yaml.safe_load(text)["deploy"]
    script = "\n".join([step.get("run", "") for step in job["steps"]] if which == "github" else job["script"])
    assert subprocess.run(["bash", "-n", "-c", script], capture_output=True, check=False).stderr == b""
    assert "<<" not in text and "vivarium.server.deploy -i inventories/prod -e asgi_only=shop" in script
    # What a visitor of the repository can name reaches the shell as a variable.
    assert "${{" not in script


def test_the_page_has_the_workflows_that_are_written():
    page = re.sub(r"(?<=vivarium.server:==)[0-9.]+", ci.version(), (ROOT / "docs/deploy-from-ci.md").read_text())
    for which in ("github", "gitlab"):
        text = ci.text(which, app="shop", inventory="inventories/prod", inside=False, directory="")
        assert "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines()) in page


@pytest.mark.parametrize("page", ["README.md", "docs/first-hour.md"])
def test_a_page_begins_with_the_commands_that_are_printed(init, tmp_path, page):
    lines = [
        " ".join(line.split())
        for line in (ROOT / page).read_text().splitlines()
        if line.strip().startswith("ansible-playbook vivarium.server.")
    ]
    assert lines[0].startswith(
        "ansible-playbook vivarium.server.init -e project=../shop -e domain=shop.example.com -e host=203.0.113.5"
    )
    assert set(re.findall(r"-e (\w+)=", lines[0])) <= set(GIVEN)
    assert lines[1:4] == [command for command, _meaning in init(start(tmp_path / "shop")).plan.commands]


def test_a_pipeline_of_the_projects_own_stays(init, tmp_path):
    shop = start(tmp_path / "shop", **{"_gitlab-ci_yml": ""})
    git(shop, "init", "--quiet")
    (shop / ".gitlab-ci.yml").write_text("test: {script: [pytest]}\n")
    written = init(shop, here=shop)
    assert (shop / ".gitlab-ci.yml").read_text() == "test: {script: [pytest]}\n"
    assert "vivarium.server.deploy" in (shop / ".gitlab/deploy.yml").read_text() and "include" in written.notes


def state(place):
    return {
        path: (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(place.rglob("*"))
    }


def test_a_second_run_changes_nothing_and_what_is_there_stays(init, tmp_path):
    shop, servers = start(tmp_path / "shop"), tmp_path / "servers"
    make(
        servers / "inventories/prod",
        hosts_yml="all: {hosts: {mine: {}}, children: {web_servers: {hosts: {mine: {}}}}}\n",
    )
    init(shop, check=False)
    assert "mine" in (servers / "inventories/prod/hosts.yml").read_text()
    make(servers / "inventories/prod", host_vars__mine_yml="{}\n")
    before = state(servers)
    init(shop, check=False)
    assert state(servers) == before
    assert not list(servers.rglob(".init-*"))


def test_an_inventory_of_another_form_is_not_added_to(init, tmp_path):
    make(tmp_path / "servers/inventories/prod", hosts_ini="[web]\n")
    with pytest.raises(InitError, match="-e inventory="):
        init(start(tmp_path / "shop"))
    assert [path.name for path in (tmp_path / "servers").rglob("*") if path.is_file()] == ["hosts.ini"]


def test_secrets_are_encrypted_where_a_password_is_known(init, tmp_path):
    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    password = str(tmp_path / "home/.vault-password")
    ansible = plan.Ansible(None, password, True, encrypt=lambda text: vault.encrypt(text).decode())
    here = tmp_path / "servers"
    here.mkdir()
    complete = answers.complete(
        {
            **GIVEN,
            "project": str(start(tmp_path / "shop")),
            "domain": "shop.example.com",
            "host": "server1.example.com",
        },
        nobody,
        lambda: "",
    )
    planned = plan.make(complete, project.read(complete.project), here, ansible)
    write.write(planned.files)
    file = here / "inventories/prod/group_vars/all/vault.yml"
    secrets = yaml.safe_load(vault.decrypt(file.read_text()))["vault_shop_secrets"]
    assert len(secrets["SECRET_KEY"]) >= 50 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (file.parent / ".gitignore").exists()
    assert "vault_password_file = ~/.vault-password" in (here / "ansible.cfg").read_text()
    # Without an address the site goes live all the same, and says what it lacks.
    main = (file.parent / "main.yml").read_text()
    assert "# certificates_acme_email" in main and "vivarium.W008" in main


def test_plain_secrets_are_for_one_pair_of_eyes_and_not_for_git(init, tmp_path):
    servers = tmp_path / "servers"
    servers.mkdir()
    git(servers, "init", "--quiet")
    written = init(start(tmp_path / "shop"))
    place = servers / "inventories/prod/group_vars/all"
    assert stat.S_IMODE((place / "vault.yml").stat().st_mode) == 0o600
    assert "ansible-vault encrypt inventories/prod/group_vars/all/vault.yml" in written.notes
    git(servers, "add", "--all")
    assert "vault.yml" not in git(servers, "ls-files").replace(".gitignore", "")
    assert written.secrets["SECRET_KEY"] not in repr(written.plan)


def test_an_ansible_cfg_elsewhere_goes_on_to_count(init, tmp_path):
    ansible = plan.Ansible(tmp_path / "home/.ansible.cfg", "/vault password", True)
    written = init(start(tmp_path / "shop"), ansible=ansible)
    assert not (tmp_path / "servers/ansible.cfg").exists()
    assert written.plan.commands[0][0].endswith(" --vault-password-file '/vault password'")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("project", "", "-e project=../shop"),
        ("domain", "", "-e domain=shop.example.com"),
        ("host", "", "-e host=203.0.113.5"),
        ("project", "{{ lookup('pipe', 'id') }}", "project must be"),
        ("project", "nowhere", "there is no directory"),
        ("domain", "Shop.example.com", "domain: 'Shop"),
        ("domain", "203.0.113.5", "is an address"),
        ("domain", "shop.example.com, *.x", None),
        ("domain", "*.example.com", "wildcard"),
        ("host", "ro ot@x", "host must be"),
        ("host", "1.2.3", "host must be"),
        ("email", "{{ x }}@example.com", "email must be"),
        ("email", "a@example.com\nb: c", "email must be"),
        ("user", "root; id", "user must be"),
        ("name", "postgres", "name must be"),
        ("inventory", "prod; id", "inventory must be"),
        ("ci", "jenkins", "ci must be one of"),
        ("application", "os.system('id')", "application must look like"),
        ("settings", "shop/settings", "settings must be"),
    ],
)
def test_an_answer_that_is_none_is_told_by_its_name(init, tmp_path, key, value, said):
    shop = start(tmp_path / "shop")
    if said is None:
        assert init(shop, **{key: value}).app["domains"] == ["shop.example.com", "*.x"]
        return
    with pytest.raises(InitError, match=re.escape(said)):
        init(shop, **{key: value})
    assert list((tmp_path / "servers").iterdir()) == []


def test_questions_are_asked_at_a_terminal(tmp_path):
    said = iter(["", "../shop", "shop.example.com", "not a host", "2001:db8::5", ""])
    asked = []

    def ask(question):
        asked.append(question)
        return next(said)

    complete = answers.complete(GIVEN, ask, lambda: "ada@example.com")
    assert (complete.domains, complete.host, complete.email) == (["shop.example.com"], "2001:db8::5", "ada@example.com")
    assert "ada@example.com" in asked[-1] and len(asked) == 6
    refused = answers.complete(
        {**GIVEN, "project": ".", "domain": "a.example", "host": "h"}, lambda _question: "-", lambda: "a@b.example"
    )
    assert refused.email == ""


def test_names_come_from_where_people_would_look(tmp_path):
    def named(directory, package="", **said):
        given = {**GIVEN, "project": f"/srv/{directory}", "domain": "my-shop.example.com", "host": "h", **said}
        return answers.application_name(answers.complete(given, nobody, lambda: ""), package)

    assert named("Web-Shop 2") == "web_shop_2"
    assert named("backend", "stall") == "stall"
    assert named("src") == "my_shop"
    assert named("postgres") == "my_shop"
    assert named("x" * 50) == "x" * 24
    assert named("shop", name="other") == "other"


# --- projects that mean harm ---


def test_a_link_is_not_followed_out_of_the_project(tmp_path):
    (tmp_path / "outside.py").write_text(FASTAPI)
    (tmp_path / "secret").mkdir()
    shop = make(tmp_path / "shop", requirements_txt="x\n")
    (shop / "main.py").symlink_to(tmp_path / "outside.py")
    (shop / "more").symlink_to(tmp_path / "secret")
    (shop / "pyproject.toml").symlink_to("/dev/zero")
    os.mkfifo(shop / "app.py")
    tree = Tree(shop)
    assert tree.text("main.py") is None and tree.text("../outside.py") is None and tree.toml("pyproject.toml") == {}
    assert tree.text("app.py") is None and tree.files == ["requirements.txt"]
    with pytest.raises(InitError, match="no ASGI application"):
        project.read(shop)


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 10,
        "(" * 5000,
        "-" * 200_000,
        "x = " + "a." * 60_000 + "a",
        "x = " + "1+" * 100_000 + "1",
        "x = " + "[" * 150 + "]" * 150,
        "#" * 3_000_000,
        "not python at all {{ 7 * 7 }}",
        'x = "\\d" is 1\n',
        UNREADABLE,
    ],
    ids=["nul", "brackets", "minus", "dots", "sum", "lists", "large", "text", "warned", "code"],
)
def test_settings_that_nobody_can_read(init, tmp_path, text):
    written = init(start(tmp_path / "shop", shop__settings_py=text, shop__models_py=text, shop__celery_py=text))
    assert written.app["name"] == "shop"


def test_values_of_a_project_are_data(init, tmp_path):
    """Names that would be templates, other keys, or commands."""
    evil = "shop {{ lookup('pipe', 'touch /tmp/x') }}"
    with pytest.raises(InitError):
        init(start(tmp_path / evil))
    quoted = init(start(tmp_path / 'sh\'op: ["x", #y'))
    assert quoted.app["source"]["path"] == '../../../sh\'op: ["x", #y'
    shop = start(
        tmp_path / "shop", manage_py=MANAGE.format("shop.settings\\n  - name: x"), shop__asgi_py=ASGI.format("{{ x }}")
    )
    (shop / "shop" / "a b.py").write_text("from celery import Celery\napp = Celery()\n")
    make(
        shop,
        pyproject_toml='[project]\nname = "{{ x }}"\nrequires-python = "{{ x }}"\n[tool.fastapi]\nentrypoint = "os:system"\n',
    )
    assert init(shop, inventory="inventories/two").app["settings"] == "shop.settings"


def test_more_files_than_anybody_has(tmp_path, monkeypatch):
    shop = make(
        tmp_path / "shop", requirements_txt="-r requirements.txt\n-r ../../etc/passwd\nfastapi\n", main_py=FASTAPI
    )
    deep = shop
    for _level in range(30):
        deep = deep / "d"
    make(deep, main_py=FASTAPI)
    assert [path for path in Tree(shop).files if path.count("/") > 6] == []
    assert project.read(shop).application == "main:app"


def test_nothing_is_written_through_a_link(init, tmp_path):
    """A project that the inventory lies in may have one where a directory of ours would be."""
    shop, outside = start(tmp_path / "shop"), tmp_path / "outside"
    outside.mkdir()
    git(shop, "init", "--quiet")
    (shop / ".github").symlink_to(outside)
    with pytest.raises(InitError, match="is a link"):
        init(shop, here=shop)
    assert list(outside.iterdir()) == [] and not (shop / "inventories").exists()


def test_a_file_that_is_a_link_counts_as_there(init, tmp_path):
    servers = tmp_path / "servers"
    servers.mkdir()
    (servers / "ansible.cfg").symlink_to(tmp_path / "nothing")
    init(start(tmp_path / "shop"))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"app_py": "from flask import Flask\napp = Flask(__name__)\n", "requirements_txt": "flask\n"}, "WSGI"),
        ({"requirements_txt": "fastapi\n"}, "-e application="),
        ({"a__requirements_txt": "x\n", "b__requirements_txt": "x\n"}, "-e project="),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_type(tmp_path, files, said):
    with pytest.raises(InitError, match=re.escape(said)):
        project.read(make(tmp_path / "shop", **files))


# --- the playbook ---


def playbook(here, *words, **environment):
    command = ["ansible-playbook", "vivarium.server.init", *(word for pair in words for word in ("-e", pair))]
    inherited = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"}
    return subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:], "-vvv", "--diff"],
        cwd=here, env={**inherited, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_playbook_end_to_end(tmp_path):
    """By its name, in an empty directory; then an Ansible that knows nothing but what was written reads the inventory."""
    start(tmp_path / "shop", conftest_py=UNREADABLE, sitecustomize_py=UNREADABLE)
    servers, password = tmp_path / "servers", tmp_path / "home/.vault-password"
    servers.mkdir()
    password.write_text("correct horse\n")
    words = ("project=../shop", "domain=shop.example.com", "host=203.0.113.5", "email=a@example.com")
    first = playbook(servers, *words, ANSIBLE_VAULT_PASSWORD_FILE=str(password))
    assert first.returncode == 0, first.stdout + first.stderr
    assert (
        "[DEPRECATION" not in first.stderr
        and "ansible-playbook vivarium.server.site -i inventories/prod" in first.stdout
    )
    vault = (servers / "inventories/prod/group_vars/all/vault.yml").read_text()
    assert vault.startswith("$ANSIBLE_VAULT;1.1;AES256")
    before = state(servers)
    second = playbook(servers, *words)
    assert "changed=0" in second.stdout and "there already" in second.stdout and state(servers) == before
    shown = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", "inventories/prod", "--host", "server1"],
        cwd=servers, env={name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    secrets = yaml.safe_load(shown)["vault_shop_secrets"]
    assert len(secrets["SECRET_KEY"]) >= 50
    for value in secrets.values():
        assert value not in first.stdout + first.stderr + second.stdout + second.stderr


def test_the_playbook_says_what_is_missing(tmp_path):
    run = playbook(tmp_path, "project=.")
    assert run.returncode != 0 and "-e domain=shop.example.com" in run.stdout and "-e host=203.0.113.5" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
