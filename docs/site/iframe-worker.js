// Search from disk: a browser gives pages of file: no workers, so a hidden frame runs the script in a worker's place.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = (this.frame = document.createElement("iframe"));
      frame.hidden = true;
      frame.srcdoc = `<script>
        const deliver = postMessage.bind(self);
        postMessage = (data, to) => (to ? deliver(data, to) : parent.postMessage(data, "*"));
      <\/script><script src="${new URL(url, location)}"><\/script>`;
      this.ready = new Promise((ready) => (frame.onload = ready));
      addEventListener("message", (event) => {
        if (event.source !== frame.contentWindow) return;
        const heard = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(heard);
        this.onmessage?.(heard);
      });
      document.documentElement.append(frame);
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.postMessage(data, "*"));
    }
    terminate() {
      this.frame.remove();
    }
  };
