"""Back PostgreSQL's databases up, prove each backup by restoring it, and put one back.

    postgresql-backup run [DATABASE ...]          make backups now (cron does, every night)
    postgresql-backup list [DATABASE]             show what there is
    postgresql-backup restore DATABASE            put the newest backup in the database's place

A dump is written under a temporary name, restored into a scratch database, and renamed only if that worked: a file that ends in
.dump is proven. One that could not be restored ends in .dump.unproven. Beside each lies a .json file with its checksum and what
the database was like.

Restoring runs code that lies in the dump (a CHECK constraint may call a function), so neither the superuser does it nor the
database's owner: a role of this program's own does, which exists only meanwhile, owns nothing else and is a member of nothing.
The superuser makes the database, and the extensions before anything else is in it, and gives it all to its owner afterwards. Its
sessions pin what they find by a name (SESSION); what a catalogue, a dump or a manifest says is handed to the server as a value or
as an identifier, never as SQL.
"""
