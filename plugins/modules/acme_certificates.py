#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask an ACME authority by certbot for the certificates that are missing or no longer good (internal)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acme_certificates
short_description: Ask an ACME authority for the certificates that are not good (internal)
version_added: 0.3.0
description:
  - Asks for each certificate that is missing, stands in for another, is of another authority, is for other names or has less than
    a third of its life left. Nothing is asked where a good one is there, and nothing where the host's own web server does not
    answer the challenge.
  - A name that cannot be proven fails its own certificate only. Every certificate that was not got stays as it was.
  - Debian's certbot asks (RFC 8555). Where the authority does not know the account it has, it gets a new one.
options:
  requests:
    description: The certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the certificate's directory; in certbot it is called C(vivarium-NAME).
        type: str
        required: true
      domains:
        description: The domain names that it is for.
        type: list
        elements: str
        required: true
      authenticator:
        description: What of certbot's proves the names, C(webroot) or a DNS plugin such as V(dns-rfc2136).
        type: str
        default: webroot
  authority:
    description: The URL of the authority's directory.
    type: str
    required: true
  email:
    description: The address of the account. With it, the authority's terms are agreed to.
    type: str
    required: true
  install:
    description: The command that brings what certbot has got in place.
    type: list
    elements: str
    required: true
  directory:
    description: The directory that holds a directory for each certificate.
    type: str
    default: /etc/ssl/vivarium
  webroot:
    description: The directory whose C(.well-known/acme-challenge/) the host's web server shows over plain HTTP.
    type: str
    default: /var/lib/vivarium/acme
  port:
    description: The port at which it does, on this host.
    type: int
    default: 80
  profile:
    description: The profile of certificates to prefer, where certbot can (Debian 13) and the authority has it.
    type: str
    default: ""
  eab_kid:
    description: The key identifier of an account that the authority knows from elsewhere (external account binding). Secret.
    type: str
    default: ""
  eab_hmac_key:
    description: The key that belongs to it. Secret.
    type: str
    default: ""
  dns_credentials:
    description: The path of the credentials of a DNS plugin, if it needs any.
    type: str
    default: ""
  propagation_seconds:
    description: For how many seconds certbot waits after it has changed the DNS.
    type: int
    default: 60
requirements:
  - certbot on the host.
attributes:
  check_mode:
    description: Says which certificates would be asked for.
    support: full
  diff_mode:
    description: Says of each certificate why it would be asked for.
    support: full
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Ask for a certificate
  vivarium.server.acme_certificates:
    authority: https://acme-v02.api.letsencrypt.org/directory
    email: admin@example.com
    install: [/usr/local/lib/vivarium/acme-certificates, nginx.service]
    requests:
      - {name: shop, domains: [shop.example.com]}
"""

RETURN = r"""
made:
  description: The names of the certificates that were got and are in use.
  type: list
  elements: str
  returned: always
refused:
  description: A sentence for each that was not, where the site has no other that is good.
  type: list
  elements: str
  returned: always
unanswered:
  description: A sentence for each that was not asked for, because the host's web server does not answer, perhaps not yet.
  type: list
  elements: str
  returned: always
late:
  description: A sentence for each that was not, where the site has one that is good for a while.
  type: list
  elements: str
  returned: always
"""
