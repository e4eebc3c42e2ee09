"""The command line: what was asked, as whom it is done, and who hears of it when it fails."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
import syslog
import termios
import traceback
from pathlib import Path
from typing import Any

from .cluster import SOCKET_DIRECTORY
from .forget import forget
from .manifest import age
from .messages import BackupError, Stopped, ending, human, printable
from .restore import Restore
from .run import ROLES, Run
from .work import Work

CONFIG = Path("/etc/postgresql-backup.json")


def become_postgres() -> None:
    """Root may call this program too; it works as postgres."""
    account = pwd.getpwnam("postgres")
    if os.geteuid() == 0:
        os.initgroups("postgres", account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    elif os.geteuid() != account.pw_uid:
        sys.exit("postgresql-backup: only root and postgres may do this")
    leave_terminal()
    # Nobody's PG* variables, and no file in a home that names other servers or passwords.
    for variable in [each for each in os.environ if each.startswith("PG")]:
        del os.environ[variable]
    os.environ.update(
        HOME=account.pw_dir, USER="postgres", LOGNAME="postgres", PGPASSFILE="/nonexistent", PGSERVICEFILE="/nonexistent",
        PGSYSCONFDIR="/nonexistent",
    )  # fmt: skip
    os.chdir("/")
    os.umask(0o077)


def leave_terminal() -> None:
    """Give root's terminal up: what runs as postgres could type into it. What stands on it still gets there."""
    with contextlib.suppress(OSError), open("/dev/tty", "rb", buffering=0) as terminal:
        if os.getsid(0) != os.getpid():
            fcntl.ioctl(terminal, termios.TIOCNOTTY)


def stop(_signal: int, _frame: Any) -> None:
    raise Stopped


def fail(config: dict[str, Any], problems: list[tuple[str, str, str]]) -> int:
    """Be loud: on stderr, which cron mails; in the journal, as errors; by the hook."""
    for where, message, details in (
        (printable(where), printable(message), details) for where, message, details in problems
    ):
        print(f"postgresql-backup: {where}: {message}", file=sys.stderr)
        syslog.syslog(syslog.LOG_ERR, f"{where}: {message}")
        for line in map(printable, details.splitlines()):
            print(f"    {line}", file=sys.stderr)
            syslog.syslog(syslog.LOG_ERR, f"{where}: {line}")
    if config.get("hook_failure"):
        summary = "; ".join(f"{where}: {message}" for where, message, _ in problems)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", config["hook_failure"]],
                env={**os.environ, "POSTGRESQL_BACKUP_ERROR": summary},
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            trouble = ending(done.returncode) if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            trouble = str(error)
        if trouble:
            print(f"postgresql-backup: the failure hook itself failed ({trouble})", file=sys.stderr)
            syslog.syslog(syslog.LOG_ERR, f"the failure hook itself failed ({trouble})")
    return 1


def command_run(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    backup = Run(config)
    if arguments.dry_run:
        databases = arguments.databases or config["databases"] or backup.cluster.databases()
        return report(arguments, {"would_back_up": databases}, [f"would back up {database}" for database in databases])
    outcomes = backup.run(arguments.databases, arguments.wait)
    lines = []
    for database, outcome in outcomes.items():
        if "error" in outcome:
            kept = f" (kept, unproven: {outcome['unproven']})" if "unproven" in outcome else ""
            lines.append(f"{database}: FAILED, {outcome['error']}{kept}")
            continue
        proven = f", {outcome['tables']} tables restored from it" if "tables" in outcome else ""
        lines.append(f"{database}: {outcome['file']}, {human(outcome['size'])}{proven}, {outcome['seconds']} s")
        syslog.syslog(syslog.LOG_INFO, lines[-1])
        for file in outcome.get("removed", []):
            syslog.syslog(syslog.LOG_INFO, f"{database}: removed {file}")
    report(
        arguments, {key: {k: v for k, v in value.items() if k != "details"} for key, value in outcomes.items()}, lines
    )
    problems = [(key, value["error"], value["details"]) for key, value in outcomes.items() if "error" in value]
    return fail(config, problems) if problems else 0


def command_check(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Whether tonight's run will find its server and any of its databases; the role asks before it keeps a configuration."""
    port, configured = config["port"], config["databases"]
    try:
        there = Work(config).cluster.databases()
    except BackupError as error:
        answering = sorted(path.name.rsplit(".", 1)[1] for path in Path(SOCKET_DIRECTORY).glob(".s.PGSQL.[0-9]*[0-9]"))
        raise BackupError(
            f"no PostgreSQL lets the superuser in at port {port} (postgresql_backup_port); ports with a server here:"
            f" {', '.join(answering) or 'none'}", error.details,
        ) from error  # fmt: skip
    if configured and not set(configured) & set(there):
        raise BackupError(
            f"the PostgreSQL at port {port} (postgresql_backup_port) has none of the databases that are to be backed up:"
            f" {printable(', '.join(configured))}"
        )
    return report(arguments, {"port": int(port)}, [f"the server at port {port} can be backed up"])


def command_list(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    store = Work(config).store
    both = [*store.backups(arguments.database), *store.backups(arguments.database, proven=False)]
    found = sorted((manifest for manifest in both if manifest["database"] != ROLES), key=age, reverse=True)
    keys = ("database", "taken", "file", "size", "tables", "sha256", "proven")
    lines = [
        f"{printable(manifest['database']):<24} {manifest['taken']}  {human(manifest['size']):>9}  {printable(manifest['file'])}"
        + ("" if manifest["proven"] else "  UNPROVEN")
        for manifest in found
    ]
    return report(arguments, [{key: manifest.get(key) for key in keys} for manifest in found], lines or ["no backups"])


def command_forget(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    files = forget(Work(config), arguments.database, arguments.wait, arguments.dry_run)
    verb = "would remove" if arguments.dry_run else "removed"
    return report(arguments, files, [f"{verb} {printable(file)}" for file in files] or ["no backups"])


def command_restore(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    result = Restore(config).restore(
        arguments.database,
        arguments.file,
        arguments.wait,
        arguments.dry_run,
        arguments.timeout,
        arguments.owner_takes_all,
        arguments.source,
    )
    database, kept = result["database"], result["kept"]
    if arguments.dry_run:
        lines = [f"would restore {database} from {result['file']}, taken {result['taken'] or 'at an unknown time'}"]
        lines += [f"would keep the present one as {kept}"] if kept else [f"{database} does not exist now"]
        lines += [] if result["proven"] else ["nobody has proven that this one can be restored"]
        if result["newer_unproven"]:
            lines += [f"there is a newer one that could not be proven: --file {result['newer_unproven']}"]
    else:
        lines = [f"restored {database} from {result['file']}: {result['tables']} tables"]
        if kept:
            lines += [
                f"kept the one before as {kept}; when nobody needs it: runuser --pty -u postgres -- dropdb {kept}"
            ]
        lines += result["problems"]
        syslog.syslog(syslog.LOG_NOTICE, "; ".join(lines))
    return report(arguments, result, lines)


def report(arguments: argparse.Namespace, content: Any, lines: list[str]) -> int:
    if arguments.json:
        print(json.dumps(content))
    elif not arguments.quiet:
        print("\n".join(map(printable, lines)))
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="postgresql-backup",
        description="Back PostgreSQL's databases up, prove each backup by restoring it, and put one back.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="answer in JSON")
    common.add_argument("--quiet", action="store_true", help="say nothing unless something fails")
    working = argparse.ArgumentParser(add_help=False, parents=[common])
    working.add_argument("--wait", type=int, default=0, metavar="SECONDS", help="wait this long for another run to end")
    working.add_argument("--dry-run", action="store_true", help="only say what would be done")
    run = commands.add_parser("run", parents=[working], help="make backups now")
    run.add_argument("databases", nargs="*", metavar="DATABASE")
    commands.add_parser("check", parents=[common], help="see whether the server is there")
    show = commands.add_parser("list", parents=[common], help="show what there is")
    show.add_argument("database", nargs="?", metavar="DATABASE")
    forget = commands.add_parser("forget", parents=[working], help="remove every backup of a database that is gone")
    forget.add_argument("database", metavar="DATABASE")
    restore = commands.add_parser("restore", parents=[working], help="put a backup in a database's place")
    restore.add_argument("database", metavar="DATABASE")
    restore.add_argument(
        "--file",
        default="latest",
        help="a file of the backup directory, or a path (default: the newest that is proven)",
    )
    restore.add_argument(
        "--from",
        dest="source",
        metavar="DATABASE",
        help="a backup of this other database, whose owner's objects shall belong to the database's owner",
    )
    restore.add_argument(
        "--timeout", type=int, metavar="SECONDS", help="how long it may take (default: as for a backup)"
    )
    restore.add_argument(
        "--owner-takes-all",
        action="store_true",
        help="also what other roles have in the backup shall belong to the database's owner",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; the exit code is 0 only if all went well."""
    arguments = parse(argv)
    become_postgres()
    syslog.openlog("postgresql-backup", syslog.LOG_PID, syslog.LOG_DAEMON)
    signal.signal(signal.SIGTERM, stop)
    config: dict[str, Any] = {}
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
        commands = {
            "run": command_run,
            "check": command_check,
            "list": command_list,
            "forget": command_forget,
            "restore": command_restore,
        }
        return commands[arguments.command](config, arguments)
    except Stopped:
        problem = (arguments.command, "stopped by a signal", "")
    except (BackupError, OSError) as error:
        problem = (arguments.command, str(error), getattr(error, "details", ""))
    except Exception as error:  # a fault of ours is as loud as any other
        problem = (arguments.command, f"{type(error).__name__}: {error}", traceback.format_exc())
    if arguments.command != "run":
        return fail({}, [problem])
    with contextlib.suppress(OSError, KeyError):
        Run(config).record_failure(problem[1])
    return fail(config, [problem])


if __name__ == "__main__":
    sys.exit(main())
