#!/bin/sh
# An ACME authority on this host, Debian's pebble, at https://authority:14000/dir. It finds one nonce in five too old, knows names from a
# server of its own (told of them at port 8055) and comes to $1 for those that it was not told of. With "dns" for $2, a second one, at
# port 14001, wants accounts bound to a key (EAB) and asks BIND for names.
set -eu
default=$1 dns=${2:-}
mkdir -p /etc/pebble
cd /etc/pebble

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 400 -subj /CN=lab -keyout root.key -out root.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -keyout tls.key -out tls.csr
echo subjectAltName=DNS:authority > names
openssl x509 -req -in tls.csr -CA root.pem -CAkey root.key -CAcreateserial -days 400 -extfile names -out tls.pem

pebble() { # UNIT PORT DNS-SERVER MORE
    cat > "$1.json" <<END
{"pebble": {"listenAddress": "0.0.0.0:$2", "managementListenAddress": "0.0.0.0:$(($2 + 1000))", "certificate": "/etc/pebble/tls.pem",
 "privateKey": "/etc/pebble/tls.key", "httpPort": 80, "tlsPort": 443, "certificateValidityPeriod": 7776000 $4}}
END
    cat > "/etc/systemd/system/$1.service" <<END
[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_AUTHZREUSE=0 PEBBLE_WFE_NONCEREJECT=20
ExecStart=/usr/bin/pebble -config /etc/pebble/$1.json -dnsserver $3
END
}

pebble pebble 14000 127.0.0.1:8053 ''
cat > /etc/systemd/system/challtestsrv.service <<END
[Service]
ExecStart=/usr/bin/pebble-challtestsrv -defaultIPv4 "$default" -defaultIPv6 "" -http01 "" -https01 "" -tlsalpn01 "" -doh ""
END
systemctl daemon-reload
systemctl restart challtestsrv pebble

if [ "$dns" ]; then
    pebble pebble-dns 14001 127.0.0.1:53 ', "externalAccountBindingRequired": true,
        "externalAccountMACKeys": {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}'
    cat > /etc/bind/named.conf.local <<'END'
key acme { algorithm hmac-sha256; secret "bm9ib2R5IHNpZ25zIGFueXRoaW5nIHJlYWwgd2l0aCB0aGlz"; };
zone "dns.test" {
    type primary;
    file "/var/lib/bind/dns.test";
    update-policy { grant acme name _acme-challenge.dns.test. TXT; };
};
END
    printf '$TTL 1\n@ IN SOA authority. admin.dns.test. 1 3600 600 86400 1\n@ IN NS authority.\n' > /var/lib/bind/dns.test
    chown bind: /var/lib/bind/dns.test
    systemctl daemon-reload
    systemctl restart named pebble-dns
fi
