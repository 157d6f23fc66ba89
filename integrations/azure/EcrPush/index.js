'use strict';

// Runs `ecr-push azure-task`, which reads the inputs of the task, its service connection and the variables from the environment.
// Errors and the result are reported by the program and by its exit code.

const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const file = process.platform === 'win32' ? 'ecr-push.exe' : 'ecr-push';

// Where the program may be: in the extension, else in the tool cache of the agent (the newest version first).
function places() {
  const places = [path.join(__dirname, 'bin', `${process.platform}-${process.arch}`, file)];
  const cache = process.env.AGENT_TOOLSDIRECTORY;
  if (cache) {
    const folder = path.join(cache, 'ecr-push');
    const versions = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
    versions.sort((one, other) => other.localeCompare(one, 'en', { numeric: true }));
    places.push(...versions.map((version) => path.join(folder, version, process.arch, file)));
  }
  return places;
}

// The program, else its name: then it is found on PATH.
function program() {
  const found = places().find((place) => fs.existsSync(place));
  if (found && process.platform !== 'win32') {
    try {
      // Agents extract an extension without the permission to execute its files.
      fs.chmodSync(found, 0o755);
    } catch {
      // It may be another user's, and executable.
    }
  }
  return found || file;
}

const child = spawn(program(), ['azure-task'], { stdio: ['ignore', 'inherit', 'inherit'] });

// A cancelled pipeline interrupts the push, which closes its uploads.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => child.kill(signal));
}

child.on('error', (error) => {
  const reason = `cannot run ecr-push: ${error.message}. It is neither in the extension, nor in the tool cache, nor on PATH.`;
  console.log(`##vso[task.complete result=Failed;]${reason}`);
  process.exitCode = 1;
});

child.on('exit', (code, signal) => {
  // Such as SIGKILL, if the agent has no memory left.
  if (signal) {
    console.log(`##vso[task.complete result=Failed;]ecr-push was ended by the signal ${signal}.`);
  }
  process.exitCode = signal ? 130 : code;
});
