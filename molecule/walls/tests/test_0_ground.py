"""The attackers' own tools work: an attack that fails for lack of them would prove nothing."""


def test_the_application_runs_what_it_is_sent(host, raid):
    assert raid(host, "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, end='')") == "raider"


def test_its_role_runs_sql(host, as_role):
    assert as_role(host, "SELECT current_user;").stdout.strip() == "raider"


def test_a_local_user_runs_programs(host, as_user):
    assert as_user(host, "id -un").stdout.strip() == "nobody"
