"""What operators do every week: nothing that serves or is kept goes away by omission, and what is about to be lost is named."""

from __future__ import annotations

import contextlib
import re
import shlex
from urllib.parse import urlsplit

import play
import pytest
import yaml


def site(**variables):
    return play.Play("site", **variables)


def deploy(**variables):
    return play.Play("deploy", **variables)


def whole_page(host, name, path="/"):
    domain = f"{name}.example.test"
    ask = "curl --silent --insecure --write-out '\nretry %%header{retry-after}\n%%{http_code}' --resolve %s:443:127.0.0.1 https://%s%s"
    return host.run(ask, domain, domain, path).stdout


def page(host, name, path="/"):
    """The status of a page, as a visitor gets it."""
    return whole_page(host, name, path).rpartition("\n")[2]


def superuser(host, query, database="postgres"):
    return host.check_output("runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d %s -c %s", database, query)


def logins(host, name):
    """The roles that may log in for an application."""
    query = (
        f"SELECT rolname FROM pg_authid WHERE rolname ~ '^{name}(-[0-9a-f]{{4}})?$' AND rolcanlogin ORDER BY rolname"
    )
    return superuser(host, query).split()


def live(host, name):
    return host.check_output("readlink /srv/%s/live", name)


def serves(host, name):
    """Whether a site answers, its static files too, and reaches its database."""
    return page(host, name) == "200" and page(host, name, "/health/") == "200"


def answers(host, name):
    assert serves(host, name), (name, host.check_output("journalctl --lines 40 --no-pager --unit '%s@*'", name))


# ---------------------------------------------------------------------------------------------------------------------
# Left out of the list


@pytest.mark.parametrize("listed", [["shop"], []], ids=["shorter", "empty"])
def test_what_leaves_the_list_goes_on_and_is_named(hosts, listed):
    """With its site, its access to the database and its timers."""
    before = {name: live(host, "blog") for name, host in hosts.items()}
    said = site(listed=listed).succeed()
    for name, host in hosts.items():
        for application in ("shop", "blog"):
            answers(host, application)
        assert live(host, "blog") == before[name]
        # A new connection is let in, and the next boot brings it back.
        host.check_output("systemctl restart 'blog@*.service'")
        play.wait_until(lambda host=host: serves(host, "blog"))
        for unit in ("blog.service", "blog-clearsessions.timer"):
            assert host.check_output("systemctl is-enabled %s", unit) == "enabled"
        host.check_output("postgresql-backup run blog")
        for left in {"shop", "blog"} - set(listed):
            assert (
                f"{left} is not in the inventory and goes on as it is (application, site {left}, database)"
                in said.output
            )
    assert (
        "asgi_remove=blog"
        in said.output.rpartition("TASK [")[0].rpartition("TASK [Name what is not as in the inventory]")[2]
    )


def test_a_deploy_names_it_too(hosts):
    said = deploy(listed=["shop"]).succeed()
    assert said.output.count("blog is not in the inventory and goes on as it is") >= len(hosts)
    assert "blog is not in the inventory" not in site().succeed().output


def test_another_inventory_for_the_host_takes_nothing_away(hosts):
    """Staging beside production: the second one's run leaves the first one's sites and databases."""
    site(listed=["blog"]).succeed()
    site(listed=["shop"]).succeed()
    for host in hosts.values():
        answers(host, "shop")
        answers(host, "blog")


def test_a_domain_of_what_left_the_list_is_not_taken_over_silently(hosts):
    """A site that is renamed is still there under its old name: nginx would ignore one of the two."""
    said = site(listed=["shop"], changes={"shop": {"domains": ["shop.example.test", "blog.example.test"]}}).fail()
    for name, host in hosts.items():
        assert "blog.example.test" in said.message(name) and "conflicting" in said.message(name)
        answers(host, "shop")
        answers(host, "blog")
    site().succeed()


def test_paths_that_do_not_go_together_are_told_before_anything_changes(hosts):
    place = "/static/blog/"
    blog = {"domains": ["shop.example.test"], "path": place, "health_path": f"{place}health/"}
    said = site(changes={"blog": blog}).fail()
    assert "static_url: '/static/' and the path of blog, /static/blog/, lie in each other" in " ".join(
        said.output.split()
    )
    for host in hosts.values():
        answers(host, "shop")
        answers(host, "blog")


def test_an_application_moves_below_the_domain_of_another_one_and_back(hosts):
    blog = {"domains": ["shop.example.test"], "path": "/blog/", "health_path": "/blog/health/"}
    site(changes={"blog": blog}).succeed()
    for host in hosts.values():
        answers(host, "shop")
        assert page(host, "shop", "/blog/") == page(host, "shop", "/blog/health/") == "200"
        assert page(host, "shop", "/blogs/") == "404" and page(host, "blog") == "000"
    site().succeed()
    for host in hosts.values():
        answers(host, "shop")
        answers(host, "blog")
        assert page(host, "shop", "/blog/health/") == "404"


def test_what_is_in_the_list_is_not_removed(hosts):
    said = site(asgi_remove="blog").fail()
    assert "blog is in asgi_apps; take it out there first" in " ".join(said.output.split()), said.output
    said = site(asgi_remove="../x").fail()
    assert "is not the name of an application" in " ".join(said.output.split()), said.output
    for host in hosts.values():
        answers(host, "blog")


LEFT = r"""
find / -xdev -path /var/log -prune -o -name '*blog*' -print | sort
find /run -xdev -path /run/log -prune -o -name '*blog*' -print | sort
getent passwd blog blog-build; getent group blog blog-build
systemctl list-units --all --plain --no-legend '*blog*'; systemctl list-unit-files --no-legend '*blog*'
ps -eo user:20,args | grep '^blog' || true
grep -rlw blog /etc --exclude='*-' || true
"""


def test_what_is_removed_by_name_leaves_its_data_and_nothing_else(hosts):
    for host in hosts.values():
        host.check_output(
            "runuser -u blog -- sh -c 'echo photo >/srv/blog/media/photo.txt; echo x >/var/lib/asgi-blog/x'"
        )
        host.check_output("postgresql-backup run blog")
    said = site(listed=["shop"], asgi_remove="blog").succeed()
    for name, host in hosts.items():
        kept = ["/srv/blog.removed", "/var/lib/asgi-blog.removed"]
        for path in kept:
            assert path in said.output, said.output
            assert host.check_output("stat --format %%a:%%U %s", path) == "700:root"
        left = [line for line in host.check_output(LEFT).splitlines() if "/blog.removed/" not in line]
        backups = [line for line in left if line.startswith("/var/backups/postgresql/blog-")]
        assert backups and sorted(set(left) - set(backups)) == kept, left
        assert host.check_output("cat /srv/blog.removed/media/photo.txt") == "photo"
        assert host.check_output("ls /srv/blog.removed").split() == ["deploys.log", "media"]
        assert (
            superuser(host, "SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname ~ '^blog'") == "f|t"
        )
        assert superuser(host, "SELECT count(*) > 0 FROM pg_tables WHERE schemaname = 'public'", "blog") == "t"
        assert page(host, "blog") == "000"
        answers(host, "shop")
        assert "blog is not in the inventory" not in said.output, name
    again = site(listed=["shop"], asgi_remove="blog").succeed()
    assert all(again.changed(name) == 0 for name in hosts), again.output


def test_what_comes_back_finds_its_database(hosts):
    site().succeed()
    for host in hosts.values():
        answers(host, "blog")
        assert len(logins(host, "blog")) == 1


def test_what_is_in_use_is_not_purged(hosts):
    said = site(listed=["shop"], asgi_purge="blog").fail()
    for name, host in hosts.items():
        assert "Take it away first (asgi_remove=blog)" in " ".join(said.message(name).split())
        assert said.changed(name) == 0
        answers(host, "blog")
        assert superuser(host, "SELECT count(*) > 0 FROM pg_tables WHERE schemaname = 'public'", "blog") == "t"


def test_what_is_purged_by_name_is_gone(hosts):
    site(listed=["shop"], asgi_remove="blog", asgi_purge="blog").succeed()
    for host in hosts.values():
        assert host.check_output(LEFT) == ""
        assert superuser(host, "SELECT count(*) FROM pg_database WHERE datname = 'blog'") == "0"
        assert superuser(host, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^blog'") == "0"
        answers(host, "shop")
    site().succeed()
    for host in hosts.values():
        answers(host, "blog")


def test_what_is_stopped_stays_installed_and_off(hosts):
    before = {name: live(host, "blog") for name, host in hosts.items()}
    stopped = {"blog": {"state": "stopped"}}
    deploy(changes=stopped).succeed()
    for host in hosts.values():
        said = whole_page(host, "blog")
        assert "<h1>Back in a moment</h1>" in said and said.endswith("\nretry 30\n503"), said
        assert page(host, "blog", "/static/admin/css/base.css") == "200"
        assert host.run("systemctl list-units --plain --no-legend --state=active 'blog*' | grep -v slice").stdout == ""
        for unit in ("blog.service", "blog-clearsessions.timer"):
            assert host.run("systemctl is-enabled %s", unit).stdout.strip() == "disabled"
        answers(host, "shop")
    again = deploy(changes=stopped, asgi_force=True, asgi_only="blog").succeed()
    assert all(again.changed(name) == 0 for name in hosts), again.output
    deploy().succeed()
    for name, host in hosts.items():
        answers(host, "blog")
        assert live(host, "blog") == before[name]
        for unit in ("blog.service", "blog-clearsessions.timer"):
            assert host.check_output("systemctl is-enabled %s", unit) == "enabled"


# ---------------------------------------------------------------------------------------------------------------------
# One that fails among others


def test_an_application_that_fails_keeps_no_other_from_its_deploy(hosts):
    before = {name: {each: live(host, each) for each in ("shop", "blog")} for name, host in hosts.items()}
    said = deploy(asgi_force=True, changes={"shop": {"settings": "herbarium.no_such_settings"}}).fail()
    for name, host in hosts.items():
        assert 'shop: the new release failed at the step "check"' in said.message(name)
        assert "Live as wanted: blog" in said.message(name)
        assert live(host, "shop") == before[name]["shop"] and live(host, "blog") != before[name]["blog"]
        answers(host, "shop")
        answers(host, "blog")
    deploy().succeed()


# ---------------------------------------------------------------------------------------------------------------------
# Back and forth


def test_what_was_rolled_back_does_not_come_again_by_itself(hosts):
    first = {name: live(host, "shop") for name, host in hosts.items()}
    deploy(asgi_only="shop", changes={"shop": {"env": {"MORE": "1"}}}).succeed()
    for name in hosts:
        play.Play("rollback", "--limit", name, asgi_only="shop").succeed()
    for name, host in hosts.items():
        assert live(host, "shop") == first[name]
    for options in (["--check"], []):
        said = play.Play("deploy", *options, changes={"shop": {"env": {"MORE": "1"}}}).succeed()
        assert "shop stays at" in said.output and "asgi_force=true" in said.output
    for name, host in hosts.items():
        assert live(host, "shop") == first[name]
    deploy(asgi_only="shop", asgi_force=True, changes={"shop": {"env": {"MORE": "1"}}}).succeed()
    for name, host in hosts.items():
        assert live(host, "shop") != first[name]
        answers(host, "shop")
    assert "shop stays at" not in deploy().succeed().output


# ---------------------------------------------------------------------------------------------------------------------
# A new password

NEW = {"secrets": {"DATABASE_PASSWORD": "another-password-of-the-shop"}}


def test_a_new_password_whose_deploy_fails_locks_nobody_out(hosts):
    before = {name: live(host, "shop") for name, host in hosts.items()}
    said = site(changes={"shop": {**NEW, "settings": "herbarium.no_such_settings"}}).fail()
    for name, host in hosts.items():
        assert said.failed_at(name, "shop", "check")
        assert live(host, "shop") == before[name]
        # New connections are let in with the password that it has.
        host.check_output("systemctl restart 'shop@*.service'")
        play.wait_until(lambda host=host: serves(host, "shop"))


def test_a_deploy_with_a_password_that_the_server_does_not_know_yet_changes_nothing(hosts):
    said = deploy(
        asgi_only="shop", changes={"shop": {"secrets": {"DATABASE_PASSWORD": "nobody-knows-this-one"}}}
    ).fail()
    for name, host in hosts.items():
        assert said.failed_at(name, "shop", "check") and "nobody-knows" not in said.output
        answers(host, "shop")


def test_nobody_notices_a_new_password_and_the_one_before_goes_with_its_last_release(hosts):
    before = {name: live(host, "shop") for name, host in hosts.items()}
    old = {name: play.database_url(host, "shop") for name, host in hosts.items()}
    with contextlib.ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(play.asking(host, "shop"))
        site(changes={"shop": NEW}).succeed()
    for name, host in hosts.items():
        assert live(host, "shop") != before[name] and play.database_url(host, "shop") != old[name]
        # Both passwords work, and what is made with the new one belongs to who owned everything before.
        for url, table in ((old[name], "before"), (play.database_url(host, "shop"), "after")):
            host.check_output("psql -XAtq -v ON_ERROR_STOP=1 -d %s -c %s", url, f"CREATE TABLE {table} ()")
        # As poolers leave a session.
        host.check_output("psql -XAtq -v ON_ERROR_STOP=1 -d %s -c 'DISCARD ALL' -c 'CREATE TABLE reset ()'", old[name])
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'reset'"
        assert superuser(host, owners, "shop") == "shop"

    with contextlib.ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(play.asking(host, "shop"))
        said = play.Play("rollback", asgi_only="shop", changes={"shop": NEW}).succeed()
    assert "secrets that the inventory does not have any more: DATABASE_URL" in " ".join(said.output.split())
    for name, host in hosts.items():
        assert live(host, "shop") == before[name]
        host.check_output("systemctl restart 'shop@*.service'")
        play.wait_until(lambda host=host: serves(host, "shop"))

    changes = {"shop": {**NEW, "keep_releases": 2}}
    for _time in range(2):
        deploy(asgi_only="shop", asgi_force=True, changes=changes).succeed()
    site(changes=changes).succeed()
    for name, host in hosts.items():
        assert logins(host, "shop") == [urlsplit(play.database_url(host, "shop")).username]
        assert "no pg_hba.conf entry" in host.run("psql -X -d %s -c 'SELECT 1'", old[name]).stderr
        assert superuser(host, "SELECT tableowner FROM pg_tables WHERE tablename = 'reset'", "shop") == "shop"
        superuser(host, "DROP TABLE before, after, reset", "shop")
        answers(host, "shop")
    again = site(changes=changes).succeed()
    assert all(again.changed(name) == 0 for name in hosts), again.output
    site().succeed()


# ---------------------------------------------------------------------------------------------------------------------
# An empty database


def test_what_is_live_does_not_go_on_with_an_empty_database(hosts):
    """The database server was moved, or set up anew: what is live has its data somewhere."""
    before = {}
    for name, host in hosts.items():
        before[name] = live(host, "shop")
        host.check_output("postgresql-backup run shop")
        # Whoever is put out comes again at once.
        superuser(host, "ALTER DATABASE shop ALLOW_CONNECTIONS false")
        put_out = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'shop'"
        play.wait_until(lambda host=host, put_out=put_out: superuser(host, put_out) == "0")
        superuser(host, "ALTER DATABASE shop RENAME TO shop_of_before")
        superuser(host, "CREATE DATABASE shop OWNER shop TEMPLATE template0")
    said = deploy(asgi_only="shop", asgi_force=True).fail()
    for name, host in hosts.items():
        assert said.failed_at(name, "shop", "check")
        assert "is empty, while release" in said.message(name) and "-e asgi_empty_database=shop" in said.message(name)
        assert live(host, "shop") == before[name]
        # What the message says to type.
        host.check_output("postgresql-backup restore shop")
    deploy(asgi_only="shop", asgi_force=True).succeed()
    for name, host in hosts.items():
        assert live(host, "shop") != before[name]
        answers(host, "shop")
        assert superuser(host, "SELECT count(*) > 0 FROM django_migrations", "shop") == "t"


def test_an_empty_database_that_is_meant_is_taken_by_name(hosts):
    for host in hosts.values():
        superuser(host, "DROP DATABASE shop WITH (FORCE)")
    site(asgi_only="shop", asgi_force=True, asgi_empty_database="shop").succeed()
    for host in hosts.values():
        answers(host, "shop")


# ---------------------------------------------------------------------------------------------------------------------
# Another name


def commands(title, document="hosts"):
    """The lines that a section of a document says to type, in their order."""
    text = (play.PROJECT / f"docs/{document}.md").read_text()
    section = re.search(rf"^##+ {title}$(.*?)(?=^##|\Z)", text, re.M | re.S)[1]
    return re.findall(r"^ {4,7}(\S.*)$", section, re.M)


def documented(title):
    """The same, taken apart: a playbook's name and its options, or nothing and what is for a host."""
    for line in commands(title):
        words = shlex.split(line)
        if words[0] == "ansible-playbook":
            assert words[2:4] == ["-i", "inventories/prod"], line
            yield words[1].removeprefix("vivarium.server."), words[4:]
        else:
            yield None, line


USER = """
from accounts.models import User
User.objects.create_user("ada", "ada@example.test", "a long enough phrase 42")
"""


def test_an_application_gets_another_name_as_the_documentation_says(hosts):
    """With every row and upload, and nothing of what it had before is lost."""
    site().succeed()
    for host in hosts.values():
        host.check_output("printf %%s %s | shop-manage shell", USER)
        host.check_output(
            "runuser -u shop -- sh -c 'mkdir -p /srv/shop/media/a/b; echo photo >/srv/shop/media/a/b/photo.txt'"
        )
        host.check_output(
            "runuser -u shop -- sh -c 'ln -s /etc/shadow /srv/shop/media/link; echo x >/var/lib/asgi-shop/x'"
        )
    shadow = {name: host.check_output("stat --format '%U %a' /etc/shadow") for name, host in hosts.items()}
    # What the inventory says at each playbook, as the text around the commands has it.
    inventory = iter(
        [
            *[{"changes": {"shop": {"state": "stopped"}}}] * 2,
            *[{"listed": ["store", "blog"], "changes": {"shop": {"name": "store", "state": "stopped"}}}] * 2,
            *[{"listed": ["store", "blog"], "changes": {"shop": {"name": "store"}}}] * 2,
        ]
    )
    for playbook, command in documented("Rename an application"):
        if not playbook:
            for host in hosts.values():
                host.check_output(command)
            continue
        if "asgi_purge=shop" in command:
            for name, host in hosts.items():
                assert page(host, "shop", "/health/") == "200"
                assert superuser(host, "SELECT username FROM accounts_user", "store") == "ada"
                assert superuser(host, "SELECT username FROM accounts_user", "shop") == "ada"
                for path in ("/srv/store/media/a/b/photo.txt", "/srv/store/media/link", "/var/lib/asgi-store/x"):
                    assert host.check_output("stat --format %%U %s", path) == "store"
                assert host.check_output("runuser -u store -- cat /srv/store/media/a/b/photo.txt") == "photo"
                assert host.check_output("stat --format '%U %a' /etc/shadow") == shadow[name]
                assert host.check_output("cat /srv/shop.removed/media/a/b/photo.txt") == "photo"
        play.Play(playbook, *command, **next(inventory)).succeed()
    assert next(inventory, None) is None
    for host in hosts.values():
        assert page(host, "shop", "/health/") == "200"  # by its domain
        assert superuser(host, "SELECT username FROM accounts_user", "store") == "ada"
        assert host.run("ls -d /srv/shop* /var/backups/postgresql/shop-*").stdout == ""
        for name in superuser(host, "SELECT datname FROM pg_database WHERE datname ~ '_before_restore_'").split():
            superuser(host, f'DROP DATABASE "{name}"')
    site(listed=["blog"], asgi_remove="store", asgi_purge="store").succeed()
    site().succeed()
    for host in hosts.values():
        answers(host, "shop")


# ---------------------------------------------------------------------------------------------------------------------
# Without the collection


def test_a_release_by_hand_goes_live_as_the_documentation_says(hosts):
    """Who leaves the collection deploys by hand: nobody notices, a reboot brings the new one back, and so does a next run."""
    site().succeed()
    script = "set -euo pipefail\n" + "\n".join(commands("Leaving the collection"))
    assert "NAME-drain@$old" in script
    for host in hosts.values():
        before = live(host, "shop")
        host.check_output("rm -rf /root/code && cp -r /srv/shop/live/code /root/code")
        host.check_output("echo new >/root/code/herbarium/static/herbarium/new.txt")
        with play.asking(host, "shop"):
            host.check_output("bash -c %s", script.replace("NAME", "shop").replace("DOMAIN", "shop.example.test"))
            play.wait_until(
                lambda host=host, before=before: host.run("systemctl is-active shop@%s", before.split("/")[1]).rc != 0
            )
        assert live(host, "shop").endswith("-byhand")
        answers(host, "shop")
        assert page(host, "shop", "/static/herbarium/new.txt") == "200"
        host.check_output("systemctl restart shop.service")
        play.wait_until(lambda host=host: serves(host, "shop"))
        release = live(host, "shop").split("/")[1]
        assert (
            host.check_output("systemctl is-active shop@%s shop-photos@%s", release, release).split() == ["active"] * 2
        )
        host.check_output("rm -r /root/code")
    # Who comes back finds a release that is not the inventory's.
    deploy(asgi_only="shop", asgi_force=True).succeed()
    for host in hosts.values():
        assert not live(host, "shop").endswith("-byhand")
        answers(host, "shop")


# ---------------------------------------------------------------------------------------------------------------------
# A database server that somebody has used before


def test_what_was_there_before_goes_into_the_inventory_as_the_documentation_says(hosts):
    lines = [line for line in commands("PostgreSQL", "adopt") if line.startswith("postgresql_")]
    inventory = yaml.safe_load("\n".join(lines))
    assert set(inventory) > {"postgresql_users_extra", "postgresql_databases_extra", "postgresql_access_extra"}
    site(vault_crm_password="the-password-of-the-crm", **inventory).succeed()
    for host in hosts.values():
        address = host.check_output("hostname -I").split()[0]
        ask = "PGPASSWORD=the-password-of-the-crm psql -XAtc 'SHOW max_connections' -h %s -U crm crm"
        assert host.check_output(ask, address) == "300"
        answers(host, "shop")
    again = site(vault_crm_password="the-password-of-the-crm", **inventory).succeed()
    assert all(again.changed(name) == 0 for name in hosts), again.output
    site().succeed()
    site(asgi_remove="crm", asgi_purge="crm").succeed()


def test_a_database_of_another_owner_becomes_an_applications_as_the_documentation_says(hosts):
    site(listed=["shop"], asgi_remove="blog", asgi_purge="blog").succeed()
    for host in hosts.values():
        superuser(host, "CREATE ROLE webapp")
        superuser(host, "CREATE DATABASE blog OWNER webapp")
        superuser(host, "CREATE TABLE posts AS SELECT 'first' AS text; ALTER TABLE posts OWNER TO webapp", "blog")
    said = site().fail()
    rename, *restore = [line.replace("shop", "blog") for line in commands("The database of an application", "adopt")]
    for name, host in hosts.items():
        assert "a database 'blog' is there and belongs to the role 'webapp'" in " ".join(
            said.message(name).split()
        ).replace("''", "'")
        host.check_output(rename)
    site(changes={"blog": {"state": "stopped"}}).succeed()
    for host in hosts.values():
        for line in restore:
            host.check_output(line)
    site().succeed()
    for host in hosts.values():
        answers(host, "blog")
        assert superuser(host, "SELECT text FROM posts", "blog") == "first"
        assert (
            superuser(host, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", "blog") == "blog"
        )
        left = superuser(host, "SELECT datname FROM pg_database WHERE datname ~ '^blog_before'").split()
        assert "blog_before" in left and len(left) == 2
        for name in left:
            superuser(host, f'DROP DATABASE "{name}"')
        superuser(host, "DROP ROLE webapp")
        host.check_output("postgresql-backup forget blog_before")
