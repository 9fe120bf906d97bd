// Served as /env-config.js to FireMail's page: where the service is, and how to send a long import.
//
// That page sends an import as one message, which may be larger than a message of this service. Before it is
// sent, its lines go by HTTP in commands of at most 20,000, as those of the console do: one job, whose progress
// every page of the user sees. The page is told what it would be told for its message.
//
// A command whose answer is lost is sent again under its key, so it is carried out once. A refusal that is not
// of the lines themselves (of the token, or because the job was cancelled or the service stays away) ends the
// import: what was not sent is told as failed. An import outlives its socket, for the page opens another one.
// Who signs in on the page meanwhile is told nothing of it.
//
// While an import is under way, and after it until the page has its list again, `email_added` may be of the
// import's own mailboxes and is kept back. After an import that added nothing the last one is told.
//
// Mailboxes that others add and delete while many come are told together, the last ones with the answer of the
// page's next heartbeat. One is sent soon after such a message, so the page need not wait for its own.

window.API_URL = '';
window.WS_URL = '/ws';
(() => {
  const LONG_CHARS = 256 * 1024, PIECE_CHARS = 160 * 1024, LINES_MAX = 20000;
  const TRIES = 5, RETRY_S = 2, TOLD_EVERY_MS = 5000, QUIET_MS = 30000, ASKED_MS = 2500;
  const OF_LINES = [400, 413, 422], BUSY = [429, 503], NO_JOBS = 404;
  const COLUMNS = /(?:^|[,;\t|，；｜]|----|—{2,})\s*"?\s*email\s*"?\s*(?:$|[,;\t|，；｜]|----|—{2,})/i;
  const underWay = new Set();
  let signedIn = '', quietUntil = 0, keptBack = '';
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  function pieces(text) {
    const lines = text.replace(/^\ufeff/, '').split(/\r\n|\r|\n/), found = [];
    let columns = null, open = null;
    lines.forEach((line, at) => {
      if (!line.trim()) return;
      if (columns === null) {
        columns = !line.includes('@') && COLUMNS.test(line) ? line : '';
        if (columns) return;
      }
      if (!open || open.count >= LINES_MAX || open.chars + line.length > PIECE_CHARS) {
        open = { texts: columns ? [columns] : [], places: columns ? [at] : [], count: 0, chars: 0 };
        found.push(open);
      }
      open.texts.push(line);
      open.places.push(at + 1);
      open.count += 1;
      open.chars += line.length + 1;
    });
    return found;
  }

  window.WebSocket = class extends WebSocket {
    #token = '';
    #asks = 0;

    constructor(...given) {
      super(...given);
      this.addEventListener('message', (event) => {
        const text = String(event.data);
        if (text.startsWith('{"type":"emails_list"')) {
          keptBack = '';
          if (!underWay.size) quietUntil = 0;
        }
        if (!text.startsWith('{"type":"email_added"') && !text.startsWith('{"type":"emails_deleted"')) return;
        clearTimeout(this.#asks);
        const ask = () => this.readyState === this.OPEN && super.send('{"type":"heartbeat"}');
        this.#asks = setTimeout(ask, ASKED_MS);
        const isOwn = underWay.size || performance.now() < quietUntil;
        if (!isOwn || !text.startsWith('{"type":"email_added"')) return;
        keptBack = text;
        event.stopImmediatePropagation();
      });
    }

    send(data) {
      if (typeof data === 'string' && data.startsWith('{"type":"authenticate"')) {
        signedIn = this.#token = JSON.parse(data).token;
      }
      if (typeof data === 'string' && data.length > LONG_CHARS && data.includes('"import_emails"')) {
        const asked = JSON.parse(data);
        if (asked.type === 'import_emails' && typeof asked.data === 'string' && this.#token) {
          if (!underWay.has(data)) void this.#import(data, asked);
          return;
        }
      }
      super.send(data);
    }

    #say(message) {
      if (signedIn !== this.#token) return;
      this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(message) }));
    }

    async #command(action, fields) {
      const headers = {
        Authorization: `Bearer ${this.#token}`, 'Content-Type': 'application/json', 'Accept-Language': 'zh',
        'Idempotency-Key': crypto.getRandomValues(new Uint32Array(4)).join('-'),
      };
      for (let tried = 1; ; tried += 1) {
        let wrong = '网络错误', retryS = RETRY_S, status = 0;
        try {
          const body = JSON.stringify(fields);
          const answer = await fetch(`/commands/${action}`, { method: 'POST', headers, body });
          const said = await answer.json();
          if (answer.ok) return said;
          status = answer.status;
          wrong = said.detail || said.message || String(status);
          if (!BUSY.includes(status)) return { wrong, status };
          retryS = Number(answer.headers.get('Retry-After')) || RETRY_S;
        } catch { /* not reached: it is tried again */ }
        if (tried >= TRIES) return { wrong, status };
        await wait(retryS * 1000);
      }
    }

    async #import(data, asked) {
      underWay.add(data);
      try {
        await this.#sendAll(asked);
      } finally {
        underWay.delete(data);
      }
      if (!keptBack || underWay.size || performance.now() < quietUntil) return;
      const added = JSON.parse(keptBack);
      keptBack = '';
      this.#say(added);
    }

    async #sendAll(asked) {
      const parts = pieces(asked.data), failed = [];
      const whole = parts.reduce((sum, part) => sum + part.count, 0);
      const mail_type = asked.mail_type || asked.mailType || 'outlook';
      const begun = await this.#command('begin_import', { lines: Math.max(1, whole) });
      const { job_id } = begun;
      let stopped = begun.wrong && ![NO_JOBS, ...BUSY].includes(begun.status) ? begun : null;
      let total = 0, success = 0, wrongs = 0, told = performance.now();
      for (const part of parts) {
        const fields = { data: part.texts.join('\n'), mail_type, job_id };
        const did = stopped || await this.#command('import_emails', fields);
        if (did.wrong) {
          const first = part.places[part.places.length - part.count];
          failed.push({ line: first, reason: did.wrong, email: '', content: '' });
          if (!OF_LINES.includes(did.status)) stopped = did;
          total += part.count;
          wrongs += part.count;
        } else {
          for (const one of did.failed_details) {
            const line = part.places[one.line - 1] ?? one.line;
            failed.push({ line, reason: one.reason, email: '', content: '' });
          }
          total += did.total;
          success += did.success;
          wrongs += did.failed;
        }
        if (performance.now() - told > TOLD_EVERY_MS) {
          told = performance.now();
          this.#say({ type: 'info', message: `已处理 ${total} / ${whole} 行` });
        }
      }
      if (job_id !== undefined) await this.#command('end_import', { job_id, stopped: Boolean(stopped) });
      if (success) quietUntil = performance.now() + QUIET_MS;
      const message = success ? `成功导入 ${success} 个邮箱` : '没有成功导入任何邮箱';
      this.#say({ type: success ? 'success' : 'warning', message });
      if (success) this.#say({ type: 'emails_imported', message });
      this.#say({ type: 'import_result', total, success, failed: wrongs, failed_details: failed });
    }
  };
})();
