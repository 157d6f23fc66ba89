//! A run on several machines of a real engine: Slurm, with three nodes on this machine, one of which dies.
//!
//! `ECR_PUSH_SLURM=1` runs it; `.ci/run-all` does.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ecr_push::sandbox::Rules;
use serde_json::Value;

use super::archive_builder::noise;
use super::bundles::save_numbered;
use super::docker_registry::not_run;
use super::ecr::Ecr;
use super::harness::{show, text};
use super::schema;

const IMAGES: usize = 200;
const TASKS: usize = 4;

/// The pushes of a task that may be under way when its node dies.
const IN_FLIGHT: usize = 4;

/// How long the cluster may take: to note that a node is silent, and to start its task again.
const DEADLINE: Duration = Duration::from_secs(300);

/// Asks until the answer is yes.
fn wait_until(what: &str, mut answer: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !answer() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cluster, gone when it is dropped.
struct Cluster {
    folder: String,
    daemons: Vec<(String, Child)>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let jobs = self.ask("squeue", &["-h", "-r", "-o", "%A"]);
        jobs.lines().for_each(|job| self.kill_job(job));
        for (_, daemon) in &mut self.daemons {
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}

impl Cluster {
    /// Starts the daemons. Nodes have one CPU each, and count as dead when they have been silent for five seconds.
    fn start(folder: String) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let nodes: String = (1..=3)
            .map(|n| format!("NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=1\n", ports[n]))
            .collect();
        // The credential of a job expires soon, since a task is not started again before.
        let conf = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket,cred_expire=5\n\
             StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool-%n\n\
             SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd-%n.pid\n\
             SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd-%n.log\nMailProg=/bin/true\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nSlurmdParameters=config_overrides\n\
             ReturnToService=2\nSlurmdTimeout=5\nKillWait=1\nJobRequeue=1\n\
             SchedulerParameters=sched_interval=1,bf_interval=1\n{nodes}\
             PartitionName=all Nodes=n1,n2,n3 Default=YES State=UP\n",
            ports[0]
        );
        fs::create_dir_all(format!("{folder}/state")).unwrap();
        fs::write(format!("{folder}/slurm.conf"), conf).unwrap();
        let key = format!("{folder}/munge.key");
        fs::write(&key, noise(u64::from(std::process::id()), 1024)).unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let mut cluster = Self { folder: folder.clone(), daemons: Vec::new() };
        let files = ["socket", "pid", "log", "seed"].map(|what| format!("{folder}/munge.{what}"));
        let [socket, pid, log, seed] = &files;
        cluster.daemon(
            "munged",
            &[
                "--foreground", "--force", "--key-file", &key, "--socket", socket, "--pid-file", pid, "--log-file",
                log, "--seed-file", seed,
            ],
        );
        wait_until("munged listens", || Path::new(socket).exists());
        let conf = format!("{folder}/slurm.conf");
        cluster.daemon("slurmctld", &["-D", "-c", "-f", &conf]);
        for node in ["n1", "n2", "n3"] {
            fs::create_dir_all(format!("{folder}/spool-{node}")).unwrap();
            cluster.daemon("slurmd", &["-D", "-N", node, "-f", &conf]);
        }
        wait_until("three nodes are idle", || {
            cluster.ask("sinfo", &["-h", "-N", "-o", "%t"]).lines().filter(|state| *state == "idle").count() == 3
        });
        cluster
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let out = fs::File::create(format!("{}/{program}-{}.out", self.folder, self.daemons.len())).unwrap();
        let mut command = self.command(&format!("/usr/sbin/{program}"), arguments);
        let daemon = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        self.daemons.push((arguments.join(" "), daemon));
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("SLURM_CONF", format!("{}/slurm.conf", self.folder));
        command
    }

    /// Returns what a client prints.
    fn ask(&self, client: &str, arguments: &[&str]) -> String {
        let output = self.command(client, arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns whether no job is left.
    fn has_ended(&self) -> bool {
        let output = self.command("squeue", &["-h", "-r"]).output().unwrap();
        output.status.success() && output.stdout.is_empty()
    }

    /// Kills the daemon of a node and what runs on it, as when a machine dies.
    fn kill_node(&mut self, node: &str) {
        let jobs = self.ask("squeue", &["-h", "-r", "--nodelist", node, "-o", "%A"]);
        let (_, daemon) = self.daemons.iter_mut().find(|(arguments, _)| arguments.contains(node)).unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        jobs.lines().for_each(|job| self.kill_job(job));
    }

    /// Kills the processes of a job of this cluster, and the one that supervises it.
    fn kill_job(&self, job: &str) {
        let conf = format!("SLURM_CONF={}/slurm.conf", self.folder);
        let job = format!("SLURM_JOB_ID={job}");
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let has = |variable: &str| environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes());
            if !has(&conf) || !has(&job) {
                continue;
            }
            let parent = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = parent.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default();
            let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
            let supervisor = name.starts_with("slurmstepd").then_some(parent.to_owned());
            let ids = supervisor.into_iter().chain(entry.file_name().into_string());
            let ids: Vec<String> = ids.collect();
            show(&format!("killing {ids:?}, {name}"));
            Command::new("kill").arg("-9").args(ids).output().unwrap();
        }
    }
}

/// Whether all of Slurm is here, and may be started.
fn is_here() -> bool {
    let programs = ["/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch"];
    let missing: Vec<_> = programs.into_iter().filter(|path| !Path::new(path).is_file()).collect();
    if !missing.is_empty() {
        not_run("Slurm (not installed; apt-get install slurmctld slurmd slurm-client munge)");
        return false;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        not_run("Slurm (its daemons run as root)");
    }
    is_root
}

#[test]
fn an_array_of_slurm_pushes_every_image_once_though_a_node_dies() {
    if std::env::var_os("ECR_PUSH_SLURM").is_none_or(|value| value != "1") || !is_here() {
        return;
    }
    // Slow enough for a node to die in between.
    let ecr = Ecr::with(&[], Rules { delay: Duration::from_millis(50), ..Rules::default() });
    let names: Vec<String> = (0..IMAGES).map(|n| format!("org/app-{n}:1")).collect();
    let archive = save_numbered(&ecr.env, "org/app", IMAGES);
    let folder = tempfile::tempdir().unwrap();
    let folder = text(folder.path());
    let mut cluster = Cluster::start(folder.clone());

    let push = ecr.command(&[&archive, "mirror/", "--all-images", "--create-repository", "--shard", "auto", "--quiet"]);
    let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap());
    let words: Vec<_> = std::iter::once(push.get_program()).chain(push.get_args()).map(quoted).collect();
    let script = format!(
        "#!/bin/bash\n#SBATCH --array=1-{TASKS}\n#SBATCH --requeue\n#SBATCH --open-mode=append\n\
         #SBATCH --output={folder}/task-%a.log\n\
         exec {} --report \"{folder}/report-$SLURM_ARRAY_TASK_ID.jsonl\"\n",
        words.join(" ")
    );
    fs::write(format!("{folder}/job.sh"), script).unwrap();
    let mut submit = cluster.command("sbatch", &["--parsable", &format!("{folder}/job.sh")]);
    submit.envs(push.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let submitted = submit.output().unwrap();
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));

    // The second node dies in the middle of its task.
    let task = || cluster.ask("squeue", &["-h", "-r", "--nodelist", "n2", "-o", "%K"]).trim().to_owned();
    let mut killed = String::new();
    wait_until("a task on n2 has pushed some of its images", || {
        killed = task();
        let report = fs::read_to_string(format!("{folder}/report-{killed}.jsonl")).unwrap_or_default();
        (5..30).contains(&report.lines().count())
    });
    cluster.kill_node("n2");
    let report = fs::read_to_string(format!("{folder}/report-{killed}.jsonl")).unwrap();
    show(&format!("n2 died with task {killed} after {} images", report.lines().count()));
    assert!(!report.contains("\"kind\":\"summary\""), "its task had ended");
    wait_until("all tasks have ended", || cluster.has_ended());

    let states = (1..=TASKS).map(|task| fs::read_to_string(format!("{folder}/task-{task}.log")).unwrap_or_default());
    show(&states.collect::<String>());
    let reports = (1..=TASKS).map(|task| format!("{folder}/report-{task}.jsonl"));
    let joined: String = reports.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    schema::check_lines(&joined);
    let lines: Vec<Value> = joined.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (images, sums): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["kind"] == "image");
    let found: BTreeSet<_> = images.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect();
    let all: BTreeSet<_> = names.iter().map(|name| format!("mirror/{name}")).collect();
    assert_eq!(all.difference(&found).collect::<Vec<_>>(), [""; 0], "images that no task reports");
    assert_eq!((images.len(), sums.len()), (IMAGES, TASKS), "lines of images and of tasks");
    let count = |key: &str| sums.iter().map(|line| line["images"][key].as_u64().unwrap()).sum::<u64>();
    let (pushed, unchanged) = (count("pushed"), count("unchanged"));
    assert_eq!((pushed + unchanged, count("failed")), (IMAGES as u64, 0));
    assert!(unchanged > 0, "the task that was started again sends nothing that it had pushed");
    for name in &names {
        let (repository, tag) = name.split_once(':').unwrap();
        assert!(ecr.image(&format!("mirror/{repository}"), tag).is_some(), "{name} is missing");
    }
    let put = ecr.count("ecr:PutImage");
    assert!((IMAGES..=IMAGES + IN_FLIGHT).contains(&put), "{put} manifests were put");
}
