#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the self-signed certificates that are missing or no longer good, all in one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: self_signed_certificates
short_description: Keep self-signed certificates good
version_added: 0.1.0
description:
  - Makes each certificate that is missing, is for other names, does not belong to its key, was not signed by itself or has less
    than a third of its life left. The others are left alone. All are looked at in one run.
  - A certificate lies in a directory of its own as C(fullchain.pem), its key beside it as C(privkey.pem), readable by root
    alone. A new certificate gets a new key (ECDSA P-256). The key is made on the host and never leaves it.
options:
  requests:
    description: The certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the certificate's directory.
        type: str
        required: true
      domains:
        description: The domain names and addresses that it is for.
        type: list
        elements: str
        required: true
      stand_in:
        description: >-
          Whether any certificate will do that is readable and belongs to its key, since an authority is about to give one.
        type: bool
        default: false
      keep_issued:
        description: >-
          Whether one that an authority was asked for stays while it is good, and its renewal with it.
        type: bool
        default: false
  directory:
    description: The directory that holds a directory for each certificate.
    type: str
    default: /etc/ssl/vivarium
  days:
    description: For how many days a new certificate is good. Browsers refuse more than 397.
    type: int
    default: 397
requirements:
  - openssl on the host; without it the module changes nothing and returns RV(openssl_missing).
attributes:
  check_mode:
    description: Says which certificates would be made.
    support: full
  diff_mode:
    description: Says of each certificate why it would be made.
    support: full
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Make a certificate for a test site
  vivarium.server.self_signed_certificates:
    requests:
      - name: shop
        domains: [shop.example.test, www.shop.example.test]
"""

RETURN = r"""
made:
  description: The names of the certificates that were made.
  type: list
  elements: str
  returned: always
openssl_missing:
  description: Whether nothing was done because the host has no openssl.
  type: bool
  returned: always
"""
