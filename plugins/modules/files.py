#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files, directories and links to the wanted state, all or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write all the files of a role at once, or none of them
version_added: 0.1.0
description:
  - Renders templates on the controller and brings files, directories and links on the host to the wanted state in one
    round trip, which takes about as long as a single M(ansible.builtin.copy).
  - The set is a transaction. New content is written beside the old, each file that has a validator is checked, then
    all are renamed into place. If anything fails, O(validate) included, everything is put back as it was.
  - What a killed run left half done is put back by the next run before it starts; that run then reports what it changes.
  - Says which files changed and, by labels, whom that concerns, so that a handler restarts only what must be restarted.
  - A symbolic link at O(files[].path) is replaced by the file; it is never written through. On the way to it, links are followed
    only where nobody but root can have made them, as C(/var/run).
  - From the first directory on that belongs to another user, all is done with the rights of that user, who could otherwise put a
    link in the place of anything there and have it written by root. So what lies there can only belong to that user, and to
    a group that the user is in. A directory of root's that others may write to is refused, unless it is sticky as C(/tmp) is.
  - Runs on one host wait for each other. One that has waited for two minutes fails and says for which process. The lock,
    C(/run/vivarium-files.lock), can be opened by root alone.
options:
  directories:
    description: Directories that exist. Missing parents are made with mode 0755, by root or the owner of what is there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: Owner, a name or a number.
        type: str
        default: root
      group:
        description: Group, a name or a number.
        type: str
        default: root
      mode:
        description: Mode, in octal digits and quoted.
        type: str
        default: "0755"
      unlisted:
        description:
          - A shell pattern such as V(*.conf). Files and links in the directory whose names match it and which this task
            does not list are told in RV(unlisted), and stay; not those whose names start with a dot, unless the pattern does.
        type: str
      concerns:
        description: Labels returned in RV(concerns) when the directory changed.
        type: list
        elements: str
        default: []
  files:
    description: Files that exist with this content, or do not exist.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. Its directory exists or is listed in O(directories).
        type: path
        required: true
      template:
        description:
          - A template, rendered as M(ansible.builtin.template) does with its defaults. It is searched where that searches,
            and last in the C(templates) directory that the roles of this collection share.
          - Exactly one of O(files[].template), O(files[].content) and O(files[].source) is required for a present file.
        type: str
      content:
        description: The content itself.
        type: str
      source:
        description: A file in the role's or playbook's C(files) directory, copied as it is.
        type: str
      vars:
        description: Variables for this template only.
        type: dict
        default: {}
      owner:
        description: Owner, a name or a number.
        type: str
        default: root
      group:
        description: Group, a name or a number.
        type: str
        default: root
      mode:
        description: Mode, in octal digits and quoted.
        type: str
        default: "0644"
      mark:
        description:
          - A text that every version of this file holds. What is at O(files[].path) without it is somebody else's, which
            O(unmarked) decides on.
        type: str
      secret:
        description: Keep the content out of the diff. (It is never in the result, in verbose output or in the host's journal.)
        type: bool
        default: false
      validate:
        description:
          - A command, run without a shell, that checks the new file, V(%s), before anything is replaced. It has ten minutes.
          - In a directory that belongs to another user it runs with the rights of that user.
        type: str
      concerns:
        description: Labels returned in RV(concerns) when this file changed.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes a file or a link, never a directory.
        type: str
        choices: [present, absent]
        default: present
  links:
    description: Symbolic links, replaced atomically.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link. A file there is replaced, a directory is not.
        type: path
        required: true
      target:
        description: What the link holds. It need not exist.
        type: str
        required: true
      concerns:
        description: Labels returned in RV(concerns) when this link changed.
        type: list
        elements: str
        default: []
  unmarked:
    description:
      - What to do where a file without its O(files[].mark) is there. V(leave) writes nothing at all and tells of it in
        RV(unmarked). V(replace) writes. V(keep) writes too, with a copy beside it, NAME.before; what is there by that name and is
        another file stops it.
    type: str
    choices: [leave, keep, replace]
    default: leave
  validate:
    description:
      - A command, run without a shell, that checks the whole set when all is in place. It runs only if something changed.
      - If it fails, or does not end within ten minutes, every file, link and directory is put back as it was and the task fails
        with the command's output.
    type: str
attributes:
  check_mode:
    description: Reports the changes and the diff that a real run would; validators do not run.
    support: full
  diff_mode:
    description: One entry for each path that changes.
    support: full
notes:
  - In check mode an owner, group or parent directory that an earlier task would have made may be missing.
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: configure | Write nginx's files
  vivarium.server.files:
    directories:
      - {path: /etc/nginx/sites.d, unlisted: "*.conf", concerns: [nginx]}
    files:
      - {path: /etc/nginx/nginx.conf, template: nginx.conf.j2, concerns: [nginx]}
      - {path: /etc/nginx/sites.d/shop.conf, template: site.conf.j2, vars: {site: shop}, concerns: [nginx]}
      - {path: /etc/sudoers.d/deploy, content: "%deploy ALL=(root) NOPASSWD: /bin/true\n", mode: "0440", validate: visudo -cf %s}
      - {path: /etc/nginx/old.conf, state: absent}
    links:
      - {path: /srv/shop/live, target: releases/42}
    validate: nginx -t
  register: __nginx_files
  notify: nginx | Reload

- name: configure | Write a secret
  vivarium.server.files:
    files:
      - path: /etc/shop.env
        content: "{{ shop_secrets | vivarium.server.env_file }}"
        mode: "0600"
        secret: true
"""

RETURN = r"""
changed_paths:
  description: The paths that changed, in the order in which they were changed.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/nginx.conf]
concerns:
  description: The labels of all that changed, sorted.
  returned: success
  type: list
  elements: str
  sample: [nginx]
unlisted:
  description: The paths in directories with that option that nobody listed, sorted.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/sites.d/blog.conf]
unmarked:
  description: The paths where a file was there without its mark.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/nginx.conf]
output:
  description: What the validator that failed had to say.
  returned: when a validator failed
  type: str
"""
