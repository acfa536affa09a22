//! What is measured, each as a process: the upstream itself, nginx before it, an actix that only says hello, Keyhouse.

use super::process::{LOAD_CORE, Process, SERVER_CORE, free_address};
use super::seed::Dataset;
use anyhow::{Context, ensure};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something that answers the load.
pub struct Server {
    pub name: String,
    pub addresses: Vec<SocketAddr>,
    /// Another address for streams, where one is needed.
    pub stream_addresses: Vec<SocketAddr>,
    /// Whose CPU time counts as its own,
    pub processes: Vec<u32>,
    /// and of whoever works for it.
    pub others: Vec<u32>,
    _processes: Vec<Process>,
}

impl Server {
    fn new(name: &str, address: SocketAddr, process: Process) -> Self {
        Self {
            name: name.to_owned(),
            addresses: vec![address],
            stream_addresses: vec![address],
            processes: vec![process.id()],
            others: Vec::new(),
            _processes: vec![process],
        }
    }

    /// Straight to the upstream.
    pub fn upstream() -> anyhow::Result<Self> {
        Self::own("straight to the upstream", "upstream", LOAD_CORE)
    }

    /// The framework alone.
    pub fn hello() -> anyhow::Result<Self> {
        Self::own("actix \"hello\", no upstream", "hello", SERVER_CORE)
    }

    fn own(name: &str, role: &str, cores: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let program = own_program()?;
        let arguments = [role.to_owned(), address.to_string()];
        let mut process = Process::start(cores, &program, &arguments, Stdio::inherit())?;
        process.wait_for(address)?;
        Ok(Self::new(name, address, process))
    }

    /// nginx with one worker, which keeps its connections to the upstream; no log, no limits, no keys.
    pub fn nginx(upstream: &Self, folder: &Path) -> anyhow::Result<Self> {
        let (address, stream_address) = (free_address()?, free_address()?);
        let servers = [(address, "", "on"), (stream_address, "", "off")];
        let server = start_nginx(folder, upstream.addresses[0], SERVER_CORE, &servers)?;
        Ok(Self { stream_addresses: vec![stream_address], ..server })
    }

    /// The upstream with TLS before it, by HTTP/2 or not, known by the certificate at this path.
    pub fn encrypted(upstream: &Self, folder: &Path, http2: bool) -> anyhow::Result<(Self, PathBuf)> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::create_dir_all(folder)?;
        let (certificate, key) = (folder.join("upstream.pem"), folder.join("upstream.key"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let how = format!(
            " ssl{}; ssl_certificate {}; ssl_certificate_key {}",
            if http2 { " http2" } else { "" },
            text(&certificate)?,
            text(&key)?
        );
        let servers = [(free_address()?, how.as_str(), "off")];
        Ok((start_nginx(folder, upstream.addresses[0], LOAD_CORE, &servers)?, certificate))
    }

    /// Keyhouse over this data, with everything on.
    pub fn keyhouse(data: &Dataset) -> anyhow::Result<Self> {
        Self::keyhouses("Keyhouse", &keyhouse_program(), data, 1, SERVER_CORE)
    }

    /// Several instances of a build over one database.
    pub fn keyhouses(
        name: &str,
        program: &str,
        data: &Dataset,
        count: usize,
        cores: &str,
    ) -> anyhow::Result<Self> {
        let mut started = Vec::new();
        for _ in 0..count {
            let (address, mut process) = start_keyhouse(program, data, cores)?;
            process.wait_for(address).with_context(|| format!("see {}", data.log().display()))?;
            started.push((address, process));
        }
        let addresses: Vec<SocketAddr> = started.iter().map(|(address, _)| *address).collect();
        Ok(Self {
            name: name.to_owned(),
            stream_addresses: addresses.clone(),
            addresses,
            processes: started.iter().map(|(_, process)| process.id()).collect(),
            others: data.database_process.into_iter().collect(),
            _processes: started.into_iter().map(|(_, process)| process).collect(),
        })
    }
}

/// Starts an instance; it will take connections soon.
pub fn start_keyhouse(program: &str, data: &Dataset, cores: &str) -> anyhow::Result<(SocketAddr, Process)> {
    let address = free_address()?;
    let log = File::options().create(true).append(true).open(data.log())?;
    let listen = address.to_string();
    let url = data.url_argument();
    let arguments = ["serve", "--listen", &listen, "--data-dir", text(&data.folder)?, "--database-url", &url];
    let mut command = vec![program.to_owned()];
    if let Some(certificate) = &data.certificate {
        command.splice(0..0, ["env".to_owned(), format!("SSL_CERT_FILE={}", text(certificate)?)]);
    }
    command.extend(arguments.map(String::from));
    let process = Process::start(cores, &command[0], &command[1..], log.into())?;
    Ok((address, process))
}

/// The release build, or another one to compare with.
pub fn keyhouse_program() -> String {
    std::env::var("KEYHOUSE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_keyhouse").to_owned())
}

/// This program, which plays several parts.
pub fn own_program() -> anyhow::Result<String> {
    Ok(text(&std::env::current_exe()?)?.to_owned())
}

/// Where benches/setup.sh unpacks it, else the system's.
pub fn nginx_program() -> anyhow::Result<String> {
    let unpacked = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/nginx/usr/sbin/nginx");
    let program = if unpacked.exists() { text(&unpacked)?.to_owned() } else { "nginx".to_owned() };
    let runs = Command::new(&program).arg("-v").output().is_ok_and(|output| output.status.success());
    ensure!(runs, "nginx is not here: run benches/setup.sh first");
    Ok(program)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is UTF-8")
}

/// nginx before the upstream, listening at these addresses, each in its own way, with its answers buffered or not.
fn start_nginx(
    folder: &Path,
    upstream: SocketAddr,
    cores: &str,
    servers: &[(SocketAddr, &str, &str)],
) -> anyhow::Result<Server> {
    fs::create_dir_all(folder)?;
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, nginx_configuration(folder, upstream, servers))?;
    let arguments = ["-e", "stderr", "-p", text(folder)?, "-c", text(&configuration)?].map(String::from);
    let mut process = Process::start(cores, &nginx_program()?, &arguments, Stdio::inherit())?;
    let address = servers[0].0;
    process.wait_for(address)?;
    Ok(Server::new("nginx `proxy_pass`", address, process))
}

fn nginx_configuration(folder: &Path, upstream: SocketAddr, servers: &[(SocketAddr, &str, &str)]) -> String {
    let folder = folder.display();
    let server = |(address, how, buffering): &(SocketAddr, &str, &str)| {
        format!(
            "server {{ listen {address}{how}; location / {{ proxy_pass http://upstream; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_buffering {buffering}; }} }}"
        )
    };
    let servers = servers.iter().map(server).collect::<Vec<_>>().join("\n");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .join(" ");
    format!(
        "daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; {temporary}\n\
         keepalive_requests 1000000000; keepalive_timeout 600s;\n\
         upstream upstream {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
         {servers} }}\n"
    )
}
